"""The parsed request, on its way through the front end with vLLM's sampling parameters.

``validation.take`` puts it there, and ``hand_over`` packs it for the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_diffusion.request.params import PREFIX, InvalidFieldError
from vllm_diffusion.request.parsed import PARSED, ParsedRequest, parse
from vllm_diffusion.request.seed_canvas import SEED_PARSERS
from vllm_diffusion.server.refusal import refused_field
from vllm_diffusion.server.watching import watched
from vllm_diffusion.startup.serving import plan_of

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.sampling_params import SamplingParams

    from vllm_diffusion.request.plan import DecodePlan

OURS = frozenset(PREFIX + name for name in SEED_PARSERS)
"""Keys that vLLM would check as well, by the one canvas that its own models have."""


def known(params: SamplingParams) -> ParsedRequest | None:
    """The parsed request, where the parameters have been taken; a client cannot send one."""
    parsed = (params.extra_args or {}).get(PARSED)
    return parsed if isinstance(parsed, ParsedRequest) else None


def parsed_of(params: SamplingParams, model_config: ModelConfig) -> ParsedRequest:
    """The parsed request; parsed here where nobody has taken it.

    Raises:
        VLLMValidationError: a field is unknown, not usable, or contradicts another.
    """
    if (parsed := known(params)) is not None:
        return parsed
    try:
        return parse(params.extra_args, plan_of(model_config))
    except InvalidFieldError as error:
        raise refused_field(error) from error


def keep(params: SamplingParams, parsed: ParsedRequest) -> None:
    """Carry a parsed request, in the place of another."""
    others = {key: value for key, value in (params.extra_args or {}).items() if key not in OURS}
    params.extra_args = {**others, PARSED: parsed}


def hand_over(params: SamplingParams, parsed: ParsedRequest, plan: DecodePlan) -> None:
    """Give the engine the packed request in the place of the client's fields."""
    others: dict[str, Any] = {
        key: value for key, value in (params.extra_args or {}).items() if not key.startswith(PREFIX)
    }
    others.pop(PARSED, None)
    if (packed := watched(parsed).pack(plan)) is not None:
        others[PARSED] = packed
    params.extra_args = others or None
