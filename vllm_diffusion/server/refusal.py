"""How a field is refused: by name, with its value and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.request.quote import quoted

if TYPE_CHECKING:
    from vllm_diffusion.request.params import InvalidFieldError


class RefusedError(VLLMValidationError):  # type: ignore[misc]
    """vLLM's error, whose text is its message alone: vLLM's own repeats the value in full."""

    def __str__(self) -> str:
        return str(self.args[0])


def refuse(
    field: str, value: object, remedy: str, why: str = "is not supported for diffusion models"
) -> RefusedError:
    """The error to raise; the value stands in its message, cut where it is long."""
    message = f"{field}={quoted(value)} {why}: {remedy}"
    return RefusedError(message, parameter=field, value=value)


def refused_field(error: InvalidFieldError) -> RefusedError:
    """The same of a ``diffusion_*`` field, which says all of it itself."""
    return RefusedError(str(error), parameter=error.field, value=error.value)
