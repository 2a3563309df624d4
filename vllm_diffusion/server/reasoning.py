"""``reasoning_effort`` of a chat: how much the model thinks, and how hard it is refined.

The level travels with the sampling parameters from the chat route to where the prompt is known.
There it becomes a budget for thoughts, tokens beside those of the answer, and a default of
``diffusion_effort``. What it means for a family is a table (``effort.reasoning_of``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_diffusion.request.conflicts import NOT_VALID
from vllm_diffusion.request.effort import Reasoning, reasoning_of
from vllm_diffusion.server.refusal import refuse
from vllm_diffusion.server.taken import keep, parsed_of
from vllm_diffusion.startup.serving import plan_of

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine import EngineCoreRequest

    from vllm_diffusion.request.parsed import ParsedRequest
    from vllm_diffusion.request.plan import DecodePlan
    from vllm_diffusion.structured.budget import Markers

LEVEL = "reasoning_effort"
"""In ``extra_args``, until ``converge`` has read it."""


def resolve_effort(request: EngineCoreRequest, vllm_config: VllmConfig) -> None:
    """Turn the level of a request into fields that the engine reads; without one do nothing.

    Called with the request's own copy of its sampling parameters, once its prompt is known.

    Raises:
        VLLMValidationError: there is no such level.
    """
    params = request.sampling_params
    if params is None or LEVEL not in (params.extra_args or {}):
        return
    # Not above: autoregressive models load nothing of the engine.
    from vllm_diffusion.structured.budget import markers_of

    extra_args = dict(params.extra_args or {})
    plan = plan_of(vllm_config.model_config)
    level, levels = extra_args.pop(LEVEL), reasoning_of(plan.record)
    if level not in levels:
        remedy = f"it must be one of {', '.join(levels)}"
        raise refuse(LEVEL, level, remedy, NOT_VALID, "value")
    parsed = _refined(parsed_of(params, vllm_config.model_config), levels[level], plan)
    params.extra_args = extra_args
    keep(params, parsed)
    decode = parsed.decode
    markers = markers_of(vllm_config)
    # An end that is forced can be followed by neither drafts nor edits, nor by what is laid.
    is_free = decode.policy != "self_speculation" and not decode.edits and parsed.seed is None
    if markers is not None and is_free:
        prompt = request.prompt_token_ids or []
        room = vllm_config.model_config.max_model_len - len(prompt)
        _budgeted(params, levels[level].budget, prompt, markers, room)


def _refined(parsed: ParsedRequest, wanted: Reasoning, plan: DecodePlan) -> ParsedRequest:
    """With the level's ``diffusion_effort``, unless the request or its policy says otherwise."""
    is_said = any(name in parsed.fields for name in ("effort", "preset"))
    policy = parsed.fields.get("policy", plan.defaults.policy)
    if is_said or policy == "self_speculation":
        return parsed
    return parsed.with_effort(wanted.effort, plan)


def _budgeted(
    params: SamplingParams, budget: int, prompt: list[int], markers: Markers, room: int
) -> None:
    """Limit thoughts, and give them tokens of their own.

    Args:
        params: of the request; changed in place.
        budget: tokens, 0 for none.
        prompt: its tokens.
        markers: around thoughts.
        room: tokens that the prompt leaves of the context.
    """
    if params.thinking_token_budget is not None or markers.has_reasoned(prompt):
        return  # said by the request, within its ``max_tokens``; or turned off by the template
    if budget == 0:
        params.thinking_token_budget = 0
        return
    answer = params.max_tokens or room
    # Where the context is short, half of it stays for the answer.
    budget = min(budget, max(room - answer, room // 2))
    params.thinking_token_budget = budget
    params.max_tokens = min(answer + budget + len(markers.start) + len(markers.forced), room)
