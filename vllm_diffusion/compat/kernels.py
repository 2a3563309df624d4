"""The check of the Triton kernels that have a replacement: they are what was replaced."""

from __future__ import annotations

from dataclasses import dataclass

from vllm_diffusion.compat.checks import TakesOnly
from vllm_diffusion.compat.source import Source


@dataclass(frozen=True, slots=True)
class Kernels:
    """Every kernel of ``cpu.registry`` has the parameters that its replacement has."""

    where: str
    """The package that holds them."""

    def __call__(self, vllm: Source) -> str | None:
        from vllm_diffusion.cpu.registry import KERNELS, parameter_names

        checks = [
            TakesOnly(name, parameter_names(replacement)) for name, replacement in KERNELS.items()
        ]
        said = [answer for check in checks if (answer := check(vllm)) is not None]
        return "; ".join(said) or None
