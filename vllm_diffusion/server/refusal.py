"""How a field is refused: by name, with its value and the remedy. Every refusal is made here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.request.conflicts import NOT_SUPPORTED, Told
from vllm_diffusion.request.field_errors import PREFIX
from vllm_diffusion.request.lexical import LEXICAL_PARSERS
from vllm_diffusion.request.quote import quoted

if TYPE_CHECKING:
    from vllm_diffusion.request.conflicts import Refusal
    from vllm_diffusion.request.params import InvalidFieldError


class RefusedError(VLLMValidationError):  # type: ignore[misc]
    """vLLM's error, whose text is its message alone: vLLM's own repeats the value in full."""

    def __str__(self) -> str:
        return str(self.args[0])


def refuse(
    field: str,
    value: object,
    remedy: str,
    why: str = NOT_SUPPORTED,
    told: Told = "text",
) -> VLLMValidationError:
    """The error to raise; the value stands in its message, cut where it is long."""
    return refused(f"{field}={quoted(value)} {why}: {remedy}", field, value, told)


def refused(
    message: str, field: str, value: object = None, told: Told = "field"
) -> VLLMValidationError:
    """The same with a message of its own."""
    if told == "text":
        return RefusedError(message, parameter=field, value=value)
    return VLLMValidationError(message, parameter=field, value=value if told == "value" else None)


def refused_pair(refusal: Refusal) -> VLLMValidationError:
    """Of features that exclude each other."""
    return refused(refusal.text, refusal.field, refusal.value, refusal.told)


def refused_field(error: InvalidFieldError) -> VLLMValidationError:
    """Of a ``diffusion_*`` field, which says all of it itself."""
    is_lexical = error.field.removeprefix(PREFIX) in LEXICAL_PARSERS
    return refused(str(error), error.field, error.value, "value" if is_lexical else "text")
