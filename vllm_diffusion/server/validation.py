"""Sampling parameters of a request: each is honoured or refused by name.

Runs in the front end before any work is spent, for HTTP (a 400) and for
``LLM()`` (a ``VLLMValidationError``) alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.models.serving import plan_of
from vllm_diffusion.params import PREFIX, InvalidFieldError

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine import EngineCoreRequest

# Fields that mean something only token by token and are not honoured here yet,
# with the value that says "not asked for".
UNSUPPORTED: dict[str, Any] = {
    "min_p": 0.0,
    "min_tokens": 0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "logit_bias": None,
    "bad_words": None,
    "allowed_token_ids": None,
    "logprobs": None,
    "prompt_logprobs": None,
    "logprob_token_ids": None,
    "prompt_logprob_token_ids": None,
    "thinking_token_budget": None,
    "trace_decode_token_ids": None,
}


def _refuse(field: str, value: object, remedy: str) -> VLLMValidationError:
    return VLLMValidationError(
        f"{field}={value!r} is not supported for diffusion models: {remedy}",
        parameter=field,
        value=value,
    )


def validate(params: SamplingParams, model_config: ModelConfig) -> None:
    """Check one request for a model of this package.

    Raises:
        VLLMValidationError: with the field, its value and the remedy.
    """
    for field, unset in UNSUPPORTED.items():
        value = getattr(params, field, unset)
        # An empty list or dict asks for nothing, like None; 0 is no None.
        asks_nothing = value is None or (isinstance(value, (list, dict)) and not value)
        if not asks_nothing and (unset is None or value != unset):
            raise _refuse(field, value, "leave it out")
    if params.seed is not None and not -(2**63) <= params.seed < 2**63:
        raise _refuse("seed", params.seed, "it must be a signed 64-bit integer")
    try:
        plan_of(model_config).request_params(params.extra_args)
    except InvalidFieldError as error:
        raise VLLMValidationError(str(error), parameter=error.field, value=error.value) from error


def check_places(body: Mapping[str, Any] | None) -> None:
    """Refuse decode fields that stand where nobody would read them.

    Args:
        body: fields of an HTTP request that OpenAI's API does not have.

    Raises:
        VLLMValidationError: with the first one, and where it belongs.
    """
    for field, value in (body or {}).items():
        if field.startswith(PREFIX):
            example = json.dumps({"vllm_xargs": {field: value}})
            raise VLLMValidationError(
                f"{field} belongs into vllm_xargs: {example}", parameter=field, value=value
            )


def check_prompt(request: EngineCoreRequest, vllm_config: VllmConfig) -> None:
    """Check a request that has passed ``validate`` together with its prompt.

    Raises:
        VLLMValidationError: the prompt does not fit twice, as guidance needs it.
    """
    model_config = vllm_config.model_config
    assert request.sampling_params is not None
    decode = plan_of(model_config).request_params(request.sampling_params.extra_args)
    if not decode.guidance_scale or request.prompt_token_ids is None:
        return
    # Not above: autoregressive models load nothing of the engine.
    from vllm_diffusion.engine.spans import longest_guided

    longest = longest_guided(model_config.max_model_len, vllm_config.cache_config.block_size)
    if len(request.prompt_token_ids) >= longest:
        raise _refuse(
            f"{PREFIX}guidance_scale",
            decode.guidance_scale,
            f"with guidance the sequence is computed twice, so prompt and output have at most "
            f"{longest} tokens and this prompt has {len(request.prompt_token_ids)}; shorten it, "
            "or serve with a larger --max-model-len",
        )
