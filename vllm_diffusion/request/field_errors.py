"""What is wrong with a field that a user set; torch is not needed to say so."""

from __future__ import annotations

from vllm_diffusion.request.quote import quoted

PREFIX = "diffusion_"


class InvalidFieldError(ValueError):
    """A field that a user set is not usable; ``field`` and ``value`` say which."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field}={quoted(value)} is not valid: {remedy}")
        self.field = field
        self.value = value
