"""Sampling parameters of a request: each is honoured or refused by name.

Runs in the front end before any work is spent, for HTTP (a 400) and for
``LLM()`` (a ``VLLMValidationError``) alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.request.params import PREFIX, InvalidFieldError
from vllm_diffusion.request.sampling import read_sampling
from vllm_diffusion.request.wording import read_wording
from vllm_diffusion.server.refusal import refuse, refused_field
from vllm_diffusion.server.sampling_fields import (
    Refusal,
    contradiction,
    is_said,
    refused_by_model,
)
from vllm_diffusion.server.structured import EDITS
from vllm_diffusion.server.wording import check_wording, said_first
from vllm_diffusion.startup.serving import plan_of

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine import EngineCoreRequest

UNSUPPORTED: dict[str, str] = {
    "trace_decode_token_ids": "a canvas cannot replay a trace; leave it out",
}
"""Fields that are refused whatever the model, and why."""


def validate(params: SamplingParams, model_config: ModelConfig) -> None:
    """Check one request for a model of this package.

    Raises:
        VLLMValidationError: with the field, its value and the remedy.
    """
    for field, remedy in UNSUPPORTED.items():
        if is_said(value := getattr(params, field, None)):
            raise refuse(field, value, remedy)
    if params.seed is not None and not -(2**63) <= params.seed < 2**63:
        raise refuse("seed", params.seed, "it must be a signed 64-bit integer")
    plan = plan_of(model_config)
    try:
        decode = plan.request_params(params.extra_args)
        read_sampling(params.extra_args)
    except InvalidFieldError as error:
        raise refused_field(error) from error
    if refused := refused_by_model(params, plan.record, decode.policy):
        raise refuse(*refused)
    check_wording(params, model_config)
    if refused := contradiction(params, plan.mask_id):
        raise _invalid(*refused)


def _invalid(field: str, value: object, remedy: str) -> VLLMValidationError:
    return refuse(field, value, remedy, "cannot be honoured")


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
        from vllm_diffusion.mask_groups.guidance import longest_guided

        longest = longest_guided(longest, vllm_config.cache_config.block_size)
        if prompt_len >= longest:
            raise refuse(
                f"{PREFIX}guidance_scale",
                decode.guidance_scale,
                f"with guidance the sequence is computed twice, so prompt and output have at most "
                f"{longest} tokens and this prompt has {prompt_len}; shorten it, "
                "or serve with a larger --max-model-len",
            )
    if refused := contradiction(params, plan.mask_id, num_free=longest - prompt_len):
        raise _invalid(*refused)
    _check_end(params)
    if params.thinking_token_budget is not None and (
        refused := against_budget(params, decode.policy, vllm_config)
    ):
        raise _invalid(*refused)


def _check_end(params: SamplingParams) -> None:
    """A text with a form has to come to an end, so some token must stand for it.

    Tool calls and ``response_format`` have become a grammar by now, keywords and lengths as well.
    """
    asked = params.structured_outputs
    is_worded = read_wording(params.extra_args) is not None
    is_free = asked is None or asked.all_constraints_none()
    if (is_free and not is_worded) or params.all_stop_token_ids:
        return
    field = said_first(params.extra_args or {}) if is_worded else "structured_outputs"
    raise VLLMValidationError(
        f"{field} cannot be honoured: no end token is known, with which such a text must end; this "
        "checkpoint names none in config.json, generation_config.json or its tokenizer. Add "
        "eos_token_id to generation_config.json, or say stop_token_ids in the request",
        parameter=field,
    )


def against_budget(params: SamplingParams, policy: str, vllm_config: VllmConfig) -> Refusal | None:
    """What does not go together with an end of thoughts that is forced."""
    from vllm_diffusion.structured.budget import markers_of

    field, value = "thinking_token_budget", params.thinking_token_budget
    if policy == "self_speculation":
        why = "policy 'self_speculation' verifies a whole draft at once; take another"
        return field, value, f"{why} diffusion_policy"
    said = params.extra_args or {}
    for name in EDITS:
        if PREFIX + name in said:
            return (
                PREFIX + name,
                said[PREFIX + name],
                f"an edit could undo the end that {field} forces",
            )
    if params.structured_outputs is not None and (
        vllm_config.structured_outputs_config.enable_in_reasoning
    ):
        return field, value, "this server's grammars cover thoughts (enable_in_reasoning)"
    markers = markers_of(vllm_config)
    forced = set(markers.forced) if markers is not None else set()
    if params.allowed_token_ids and not forced <= set(params.allowed_token_ids):
        missing = sorted(forced - set(params.allowed_token_ids))
        return (
            "allowed_token_ids",
            params.allowed_token_ids,
            (f"the end of thoughts is not among them; add {missing}, or leave out {field}"),
        )
    if any(forced & set(word) for word in params.bad_words_token_ids or ()):
        return "bad_words", params.bad_words, f"{field} forces the end of thoughts"
    return None
