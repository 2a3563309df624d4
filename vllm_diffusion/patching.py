"""What every patch on vLLM shares: whom it serves, how it takes its target, what is active."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vllm_diffusion.family.registry import WITHOUT_TRITON
from vllm_diffusion.family.rows import FAMILIES

if TYPE_CHECKING:
    from vllm.config import ModelConfig

SUPPORTED = "0.32 or 0.33"
"""Versions of vLLM, as errors name them; ``docs/compatibility.md`` says what was asked of each."""
ACTIVE: dict[str, str] = {}
"""Name of each applied patch, and the first line of why."""


def serves(model_config: ModelConfig | None) -> bool:
    """Is it a model of this package?"""
    return model_config is not None and model_config.architecture in FAMILIES


def has_kernels(model_config: ModelConfig | None) -> bool:
    """Does it run without Triton: ours, and on CPUs a model whose decoding is vLLM's own."""
    if model_config is None or serves(model_config):
        return model_config is not None
    from vllm.platforms import current_platform

    return model_config.architecture in WITHOUT_TRITON and current_platform.is_cpu()


def take(owner: Any, name: str) -> Any:
    """The attribute to be wrapped, or a clear failure."""
    target = vars(owner).get(name)
    if target is None:
        import vllm

        raise RuntimeError(
            f"vllm_diffusion.compat: {owner.__name__}.{name} is not in vLLM {vllm.__version__}. "
            f"Install a supported vLLM ({SUPPORTED}) or update vllm_diffusion."
        )
    return target


def once(patch: Callable[[], None]) -> Callable[[], None]:
    def apply() -> None:
        if patch.__name__ not in ACTIVE:
            patch()
            ACTIVE[patch.__name__] = (patch.__doc__ or "").strip().splitlines()[0]

    apply.__name__ = patch.__name__
    apply.__doc__ = (patch.__doc__ or "").strip().splitlines()[0]
    return apply
