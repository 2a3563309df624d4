"""Sampling parameters of a request: each is honoured or refused by name.

Runs in the front end before any work is spent, for HTTP (a 400) and for
``LLM()`` (a ``VLLMValidationError``) alike.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.request.conflicts import NOT_HONOURED, conflict
from vllm_diffusion.request.features import Asked, is_said
from vllm_diffusion.request.params import PREFIX
from vllm_diffusion.server.refusal import refuse, refused, refused_pair
from vllm_diffusion.server.sampling_fields import contradiction
from vllm_diffusion.server.seed_canvas import check_laid, check_seed, settle
from vllm_diffusion.server.structured import check_structured
from vllm_diffusion.server.taken import keep, known, parsed_of
from vllm_diffusion.startup.serving import plan_of

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine import EngineCoreRequest

    from vllm_diffusion.request.parsed import ParsedRequest

LAID = ("seed canvas", "draft", "drafted canvas", "read-only canvas", "constrained canvas")
UNSUPPORTED: dict[str, str] = {
    "trace_decode_token_ids": "a canvas cannot replay a trace; leave it out",
}
"""Fields that are refused whatever the model, and why."""


def take(
    params: SamplingParams, model_config: ModelConfig, *, reasoning_ended: bool = False
) -> SamplingParams:
    """Parse and check a request, where it comes in and nowhere else.

    Returns:
        A copy of its parameters that carries the parsed request. The client's own stay as they
        are: it may send them with other prompts.

    Raises:
        VLLMValidationError: see ``validate`` and ``check_structured``.
    """
    parsed = known(params)
    if parsed is None:
        parsed = validate(params, model_config)
        check_structured(params, model_config, parsed)
    taken = copy(params)
    settle(taken, parsed)
    keep(taken, replace(parsed, reasoning_ended=True) if reasoning_ended else parsed)
    return taken


def take_or_leave(params: SamplingParams, model_config: ModelConfig) -> SamplingParams:
    """The same where a refusal would come too early; it comes again where the request comes in."""
    try:
        return take(params, model_config)
    except VLLMValidationError:
        return params


def validate(params: SamplingParams, model_config: ModelConfig) -> ParsedRequest:
    """Check one request for a model of this package; a form of its text is checked elsewhere.

    Raises:
        VLLMValidationError: with the field, its value and the remedy.
    """
    for field, remedy in UNSUPPORTED.items():
        if is_said(value := getattr(params, field, None)):
            raise refuse(field, value, remedy)
    if params.seed is not None and not -(2**63) <= params.seed < 2**63:
        raise refuse("seed", params.seed, "it must be a signed 64-bit integer")
    plan, parsed = plan_of(model_config), parsed_of(params, model_config)
    asked = Asked(params=params, parsed=parsed, record=plan.record, mask_id=plan.mask_id)
    if refusal := conflict(asked, "unread prompt", "speculation", "words", *LAID):
        raise refused_pair(refusal)
    check_seed(params, parsed, model_config)
    if impossible := contradiction(params, plan.mask_id):
        raise refuse(*impossible, NOT_HONOURED)
    return parsed


def check_prompt(request: EngineCoreRequest, vllm_config: VllmConfig) -> None:
    """Check a request that has passed ``validate`` together with its prompt.

    Raises:
        VLLMValidationError: the prompt does not fit twice, as guidance needs it; words or lengths
            that no output satisfies, which is known only now; a seed that does not fit.
    """
    model_config = vllm_config.model_config
    params = request.sampling_params
    assert params is not None
    plan, parsed = plan_of(model_config), parsed_of(params, model_config)
    longest = model_config.max_model_len
    prompt_len = len(request.prompt_token_ids or ())
    if parsed.decode.guidance_scale:
        # Not above: autoregressive models load nothing of the engine.
        from vllm_diffusion.mask_groups.guidance import longest_guided

        longest = longest_guided(longest, vllm_config.cache_config.block_size)
        if prompt_len >= longest:
            raise refuse(
                f"{PREFIX}guidance_scale",
                parsed.decode.guidance_scale,
                f"with guidance the sequence is computed twice, so prompt and output have at most "
                f"{longest} tokens and this prompt has {prompt_len}; shorten it, "
                "or serve with a larger --max-model-len",
            )
    if impossible := contradiction(params, plan.mask_id, num_free=longest - prompt_len):
        raise refuse(*impossible, NOT_HONOURED)
    check_laid(params, parsed, num_free=longest - prompt_len, mask_id=plan.mask_id)
    _check_end(params, parsed)
    if params.thinking_token_budget is not None and (
        refusal := conflict(_with_budget(params, parsed, vllm_config), "thinking_token_budget")
    ):
        raise refused_pair(refusal)


def _check_end(params: SamplingParams, parsed: ParsedRequest) -> None:
    """A text with a form has to come to an end, so some token must stand for it.

    Tool calls and ``response_format`` have become a grammar by now, keywords and lengths as well.
    """
    asked = params.structured_outputs
    is_worded = parsed.lexical is not None
    is_free = asked is None or asked.all_constraints_none()
    if (is_free and not is_worded) or params.all_stop_token_ids:
        return
    field = parsed.lexical_field if is_worded else "structured_outputs"
    raise refused(
        f"{field} cannot be honoured: no end token is known, with which such a text must end; this "
        "checkpoint names none in config.json, generation_config.json or its tokenizer. Add "
        "eos_token_id to generation_config.json, or say stop_token_ids in the request",
        field,
    )


def _with_budget(params: SamplingParams, parsed: ParsedRequest, vllm_config: VllmConfig) -> Asked:
    """What decides whether an end of thoughts can be forced."""
    from vllm_diffusion.structured.budget import markers_of

    markers = markers_of(vllm_config)
    return Asked(
        params=params,
        parsed=parsed,
        record=plan_of(vllm_config.model_config).record,
        forced_end=frozenset(markers.forced) if markers is not None else frozenset(),
        covers_reasoning=vllm_config.structured_outputs_config.enable_in_reasoning,
    )
