"""The check of the Triton kernels that have replacements: they are what one of these replaces."""

from __future__ import annotations

from dataclasses import dataclass

from vllm_diffusion.compat.checks import TakesOnly
from vllm_diffusion.compat.source import Source


@dataclass(frozen=True, slots=True)
class Kernels:
    """Every kernel of ``cpu.registry`` has the parameters that a replacement of it has."""

    where: str
    """The package that holds them."""

    def __call__(self, vllm: Source) -> str | None:
        from vllm_diffusion.cpu.registry import KERNELS, parameter_names

        said = []
        for name, replacements in KERNELS.items():
            checks = [TakesOnly(name, parameter_names(one)) for one in replacements]
            answers = [check(vllm) for check in checks]
            if None not in answers:
                said.append(" or ".join(map(str, dict.fromkeys(answers))))
        return "; ".join(said) or None
