"""Keywords, texts to keep out and lengths: what of a request goes together with them.

They are followed as a grammar is, and take its way through vLLM, with a grammar that allows
everything in its place; the engine reads the request's own fields (``wording``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import StructuredOutputsParams

from vllm_diffusion.params import PREFIX, InvalidFieldError
from vllm_diffusion.server.structured import against_grammar
from vllm_diffusion.structured.lexical_dfa import phrases_of
from vllm_diffusion.wording import WORDING_PARSERS, Wording, read_wording

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine import EngineCoreRequest

ANYTHING = r"root ::= [^\x00]*"
BACKEND = "xgrammar"
"""vLLM needs a name that it knows; nothing is compiled by it but ``ANYTHING``."""


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
    fewest = int(phrases_of(wording).need_MS[0, 0])
    if wording.max_chars is not None and fewest > wording.max_chars:
        raise VLLMValidationError(
            f"{PREFIX}max_chars={wording.max_chars} cannot be honoured: a text with all of "
            f"{PREFIX}keywords has at least {fewest} characters",
            parameter=f"{PREFIX}max_chars",
            value=wording.max_chars,
        )
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


def constrain(request: EngineCoreRequest, tokenizer: Any, max_model_len: int) -> None:
    """Let the request take the way of a grammar; without such fields do nothing.

    Called with the request's own copy of its sampling parameters, once its prompt is known.

    Raises:
        VLLMValidationError: the words do not fit into the tokens that there are.
    """
    params = request.sampling_params
    wording = read_wording(params.extra_args) if params is not None else None
    if params is None or wording is None:
        return
    field = said_first(params.extra_args or {})
    if tokenizer is None:
        raise VLLMValidationError(f"{field} needs a tokenizer, and this server has none")
    assert params.max_tokens is not None
    room = min(params.max_tokens, max_model_len - len(request.prompt_token_ids or ()))
    needed = fewest_tokens(wording, tokenizer)
    if needed > room:
        raise VLLMValidationError(
            f"{field}={(params.extra_args or {})[field]!r} cannot be honoured: with the stop token "
            f"that takes {needed} tokens, and the output has {room}; raise max_tokens",
            parameter=field,
        )
    params.structured_outputs = StructuredOutputsParams(grammar=ANYTHING)
    params.structured_outputs._backend = BACKEND


def fewest_tokens(wording: Wording, tokenizer: Any) -> int:
    """Of the ends of an empty text that the engine would fill in, the stop token included."""
    return 1 + min(
        sum(len(tokenizer.encode(piece.decode(), add_special_tokens=False)) for piece in ending)
        for ending in phrases_of(wording).endings(0, 0, 0)
    )
