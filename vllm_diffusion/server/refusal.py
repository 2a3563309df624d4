"""How a field is refused: by name, with its value and the remedy."""

from __future__ import annotations

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.quote import quoted


def refuse(
    field: str, value: object, remedy: str, why: str = "is not supported for diffusion models"
) -> VLLMValidationError:
    """The error to raise; the value stands in its message alone, cut where it is long."""
    return VLLMValidationError(f"{field}={quoted(value)} {why}: {remedy}", parameter=field)
