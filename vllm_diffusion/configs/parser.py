"""How ``config.json`` is read: ``--hf-overrides`` for our families, a hint in vLLM's errors.

vLLM says that an architecture is unknown and lists its own few hundred, or asks for
``--trust-remote-code``, which brings no decoding. For what looks like a diffusion model the error
goes on with what this package serves. Nothing is refused here: a name proves nothing, and what
looks like one may be served by vLLM's Transformers backend or by another plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from vllm.transformers_utils.config_parser_base import ConfigParserBase

from vllm_diffusion.family.registry import MODEL_TYPES, SERVED, config_shim
from vllm_diffusion.family.rows import FAMILIES

NAME_HINTS = ("diffu", "dllm", "llada", "sdar", "dream")
FIELD_HINTS = ("mask_token_id", "canvas_length", "bd_size")


def diffusion_hints(config: Mapping[str, Any]) -> list[str]:
    """What in a ``config.json`` speaks for a diffusion language model."""
    architectures, auto_map = config.get("architectures"), config.get("auto_map")
    names = [*architectures] if isinstance(architectures, list) else []
    names += [config.get("model_type"), *(auto_map.values() if isinstance(auto_map, dict) else ())]
    said = [name for name in names if isinstance(name, str)]
    found = [name for name in said if any(hint in name.lower() for hint in NAME_HINTS)]
    return list(dict.fromkeys(found)) + [
        name for name in FIELD_HINTS if config.get(name) is not None
    ]


def add_hint(error: Exception, config: Mapping[str, Any]) -> None:
    """Let vLLM's refusal of a config that looks like a diffusion model's say what is served here.

    The error's type and its own words stay. In the message, not in a note: what vLLM makes of a
    ``ValueError`` on the way to the user keeps the message alone.
    """
    hints = diffusion_hints(config)
    architectures = config.get("architectures") or []
    is_served = isinstance(architectures, list) and any(name in SERVED for name in architectures)
    if is_served or not hints or len(error.args) != 1:
        return
    served = "\n".join(f"  {architecture}: {title}" for architecture, title in SERVED.items())
    error.args = (
        f"{error.args[0]}\n\nA hint of vllm_diffusion: this looks like a diffusion language model "
        f"({', '.join(hints)}), of which it serves these architectures:\n{served}\n"
        "If the network is one of these under another name, say so with --hf-overrides "
        '\'{"architectures": ["..."]}\'',
    )


class DiffusionAwareParser(ConfigParserBase):  # type: ignore[misc]  # vLLM is not followed
    """In front of the parser that vLLM has: its failures say more, and overrides are followed.

    The architecture that ``--hf-overrides`` names is read by its own shim, as if the file named
    it. Whatever is not ours is read by the parser behind this one alone.
    """

    def parse(
        self, model: str | Path, trust_remote_code: bool, *args: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], Any]:
        overrides = kwargs.get("hf_overrides") or {}
        said = dict(overrides) if isinstance(overrides, Mapping) else {}
        named = said.get("architectures")
        architecture = named[0] if isinstance(named, list) and named else None
        if architecture in FAMILIES:
            said.setdefault("model_type", MODEL_TYPES[architecture])
            kwargs["hf_overrides"] = said
        try:
            fields, config = super().parse(model, trust_remote_code, *args, **kwargs)
        except (ValueError, RuntimeError) as error:
            add_hint(error, _fields_of(model, kwargs.get("revision")) | said)
            raise
        if architecture in FAMILIES and (shim := config_shim(said["model_type"])) is not None:
            # vLLM lays the overrides over the made config, too late for the choice of its class.
            laid_over = {name: said[name] for name in ("architectures", "model_type")}
            config = shim.from_dict(fields | laid_over, name_or_path=str(model))
        return fields, config


def in_front_of(parser: type[ConfigParserBase]) -> type[ConfigParserBase]:
    """Our parser before another, which may be vLLM's or that of another plugin."""
    if issubclass(parser, DiffusionAwareParser):
        return parser
    return type("DiffusionAwareParser", (DiffusionAwareParser, parser), {})


def _fields_of(model: str | Path, revision: str | None) -> dict[str, Any]:
    """``config.json`` as it is written; nothing where it is what cannot be read."""
    fields: dict[str, Any] = {}
    with suppress(OSError, ValueError, RuntimeError):
        fields, _ = PreTrainedConfig.get_config_dict(model, revision=revision)
    return fields
