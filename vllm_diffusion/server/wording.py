"""Keywords, texts to keep out and lengths: what of a request goes together with them.

They are compiled and followed as structured output is (``compilation``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.request.params import PREFIX, InvalidFieldError
from vllm_diffusion.request.wording import WORDING_PARSERS, read_wording
from vllm_diffusion.server.structured import against_grammar

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.sampling_params import SamplingParams


def said_first(extra_args: dict[str, Any]) -> str:
    """The field that a message is about."""
    return next(PREFIX + name for name in WORDING_PARSERS if PREFIX + name in extra_args)


def check_wording(params: SamplingParams, model_config: ModelConfig) -> None:
    """Check a request's fields and what stands beside them.

    Raises:
        VLLMValidationError: with the field, its value and the remedy.
    """
    try:
        wording = read_wording(params.extra_args)
    except InvalidFieldError as error:
        raise VLLMValidationError(str(error), parameter=error.field, value=error.value) from error
    if wording is None:
        return
    field = said_first(params.extra_args or {})
    if params.structured_outputs is not None:
        raise VLLMValidationError(
            f"{field} does not go together with another form of the text (structured_outputs, "
            "response_format, tool_choice); choose one",
            parameter=field,
        )
    against_grammar(params, model_config, field)
    if params.stop and (wording.keywords or wording.min_chars):
        raise VLLMValidationError(
            f"stop={params.stop!r} does not go together with {field}: it could end the text too "
            "early; leave one of the two out",
            parameter="stop",
            value=params.stop,
        )
