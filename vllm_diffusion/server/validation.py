"""Sampling parameters of a request: each is honoured or refused by name.

Runs in the front end before any work is spent, for HTTP (a 400) and for
``LLM()`` (a ``VLLMValidationError``) alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.models.serving import plan_of
from vllm_diffusion.params import PREFIX, InvalidFieldError
from vllm_diffusion.server.sampling_fields import contradiction, is_said, refused_by_model

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine import EngineCoreRequest

UNSUPPORTED: dict[str, str] = {
    "thinking_token_budget": "the end of thinking cannot be forced yet; leave it out",
    "trace_decode_token_ids": "a canvas cannot replay a trace; leave it out",
}
"""Fields that are refused whatever the model, and why."""


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
    for field, remedy in UNSUPPORTED.items():
        if is_said(value := getattr(params, field, None)):
            raise _refuse(field, value, remedy)
    if params.seed is not None and not -(2**63) <= params.seed < 2**63:
        raise _refuse("seed", params.seed, "it must be a signed 64-bit integer")
    plan = plan_of(model_config)
    try:
        decode = plan.request_params(params.extra_args)
    except InvalidFieldError as error:
        raise VLLMValidationError(str(error), parameter=error.field, value=error.value) from error
    if refused := refused_by_model(params, plan.record, decode.policy):
        raise _refuse(*refused)
    if refused := contradiction(params, plan.mask_id):
        raise _invalid(*refused)


def _invalid(field: str, value: object, remedy: str) -> VLLMValidationError:
    return VLLMValidationError(
        f"{field}={value!r} cannot be honoured: {remedy}", parameter=field, value=value
    )


def check_prompt(request: EngineCoreRequest, vllm_config: VllmConfig) -> None:
    """Check a request that has passed ``validate`` together with its prompt.

    Raises:
        VLLMValidationError: the prompt does not fit twice, as guidance needs it; words or lengths
            that no output satisfies, which is known only now.
    """
    model_config = vllm_config.model_config
    params = request.sampling_params
    assert params is not None
    plan = plan_of(model_config)
    decode = plan.request_params(params.extra_args)
    longest = model_config.max_model_len
    prompt_len = len(request.prompt_token_ids or ())
    if decode.guidance_scale:
        # Not above: autoregressive models load nothing of the engine.
        from vllm_diffusion.engine.spans import longest_guided

        longest = longest_guided(longest, vllm_config.cache_config.block_size)
        if prompt_len >= longest:
            raise _refuse(
                f"{PREFIX}guidance_scale",
                decode.guidance_scale,
                f"with guidance the sequence is computed twice, so prompt and output have at most "
                f"{longest} tokens and this prompt has {prompt_len}; shorten it, "
                "or serve with a larger --max-model-len",
            )
    if refused := contradiction(params, plan.mask_id, num_free=longest - prompt_len):
        raise _invalid(*refused)
