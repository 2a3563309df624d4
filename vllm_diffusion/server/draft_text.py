"""``diffusion_draft`` as a text: it becomes tokens.

Before a request is parsed: the tokenizer is the front end's, and in a server it works on a thread
of vLLM's, as for prompts. No token stands for the text's end: behind the draft there are holes,
which the forward that reads the draft may fill.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from vllm.renderers import TokenizeParams

from vllm_diffusion.request.conflicts import NOT_HONOURED
from vllm_diffusion.request.seed_canvas import DRAFT
from vllm_diffusion.server.refusal import refuse

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.input_processor import InputProcessor

MOST_CHARS = 64
"""A token of the context; a longer text is refused before it becomes tokens."""
PLAIN = TokenizeParams(max_total_tokens=None, add_special_tokens=False)


def text_of(params: Any, model_config: ModelConfig) -> str | None:
    """The draft of a request, if it is a text.

    Raises:
        VLLMValidationError: it is too long, or there is no tokenizer.
    """
    text = (getattr(params, "extra_args", None) or {}).get(DRAFT)
    if not isinstance(text, str):
        return None
    check_length(text, DRAFT, model_config)
    if model_config.skip_tokenizer_init:
        raise refuse(DRAFT, text, "there is no tokenizer here; send token ids", NOT_HONOURED)
    return text


def check_length(text: str, field: str, model_config: ModelConfig) -> None:
    """Refuse a text that no output could hold.

    Raises:
        VLLMValidationError: with the field.
    """
    most = MOST_CHARS * model_config.max_model_len
    if len(text) > most:
        remedy = f"it has {len(text)} characters, and at most {most} are read; shorten it"
        raise refuse(field, text, remedy, NOT_HONOURED)


def with_tokens(params: SamplingParams, tokens: Any) -> SamplingParams:
    """A copy of the parameters whose draft is tokens; of no text there is no draft."""
    made = copy(params)
    ids = list(tokens["prompt_token_ids"])
    made.extra_args = {**(params.extra_args or {}), DRAFT: ids or None}
    return made


def read_draft(params: Any, model_config: ModelConfig, processor: InputProcessor) -> Any:
    """The parameters with a draft of tokens, for an ``LLM()``."""
    if (text := text_of(params, model_config)) is None:
        return params
    tokens = processor.renderer.tokenize_prompt({"prompt": text}, PLAIN)
    return with_tokens(params, tokens)


async def read_draft_async(
    params: Any, model_config: ModelConfig, processor: InputProcessor
) -> Any:
    """The same for a server."""
    if (text := text_of(params, model_config)) is None:
        return params
    tokens = await processor.renderer.tokenize_prompt_async({"prompt": text}, PLAIN)
    return with_tokens(params, tokens)
