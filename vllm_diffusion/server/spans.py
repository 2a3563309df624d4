"""Attributes of diffusion on the span that vLLM makes of a finished request.

vLLM makes one of its numbers alone. What the request cost in forwards is added on the way from
there to OpenTelemetry; nothing is loaded or computed where no traces are asked for.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from vllm_diffusion.server.request_log import counts_of

if TYPE_CHECKING:
    from vllm.v1.engine import EngineCoreOutput

ENDING: ContextVar[EngineCoreOutput | None] = ContextVar("ending", default=None)
"""The output that is being processed."""
PREFIX = "gen_ai.diffusion"


def attributes() -> dict[str, Any]:
    """Of the request whose end is being processed; empty for other models."""
    output = ENDING.get()
    told = None if output is None else counts_of(output)
    if told is None:
        return {}
    return {
        f"{PREFIX}.denoising_steps": told.num_denoising_steps,
        f"{PREFIX}.prefill_forwards": told.num_prefill_forwards,
        f"{PREFIX}.forwards": told.num_forwards,
        f"{PREFIX}.tokens_per_forward": told.tokens_per_forward,
        f"{PREFIX}.approximate_forwards": told.num_approximate_forwards,
    }
