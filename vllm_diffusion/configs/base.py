"""What the config shims share, mixed in before a class of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class DiffusionShim:
    """Reads the fields of a diffusion family into those of a known network."""

    SPELLINGS: ClassVar[Mapping[str, str]] = {}
    """The authors' field names, and the ones that vLLM reads."""
    REQUIRED: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Fields that the authors' code knows, and their values that vLLM's network computes.

    A field that the file lacks is not checked.
    """
    BY_ARCHITECTURE: ClassVar[Mapping[str, type[Any]]] = {}
    """Classes for architectures that have this ``model_type`` but another network."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a config from the file's fields; ``architectures[0]`` chooses the class."""
        architecture = (config_dict.get("architectures") or [""])[0]
        chosen = cls.BY_ARCHITECTURE.get(architecture)
        if chosen is not None:
            return chosen.from_dict(config_dict, **kwargs)
        fields = {cls.SPELLINGS.get(name, name): value for name, value in config_dict.items()}
        return super().from_dict(fields, **kwargs)  # type: ignore[misc]

    def __post_init__(self, **kwargs: Any) -> None:
        # is_causal=False would make vLLM build encoder attention without a KV
        # cache; here non-causality comes from the attention metadata.
        kwargs.pop("is_causal", None)
        super().__post_init__(**kwargs)  # type: ignore[misc]


def unsupported_fields(config: Any) -> list[str]:
    """What a config asks for that vLLM's network does not compute, as text."""
    # A canvas attends to all of its context in every family.
    required = {"sliding_window": (None,), **getattr(config, "REQUIRED", {})}
    return [
        f"{name}={getattr(config, name)!r} (must be {' or '.join(map(repr, allowed))})"
        for name, allowed in required.items()
        if hasattr(config, name) and getattr(config, name) not in allowed
    ]
