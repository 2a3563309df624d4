"""Decode metrics in the shape of vLLM's ``metrics.speculative_decoding``.

vLLM's fields keep their names and get the meaning that fits: a verify step is
a denoising step, an accepted draft token a committed token. The diffusion
numbers stand beside them under their own names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_diffusion.metrics import count

if TYPE_CHECKING:
    from vllm_diffusion.counters import RequestCounts


def to_response(counts: RequestCounts) -> dict[str, Any]:
    """The response's ``metrics.speculative_decoding`` of one request."""
    metrics = count(counts)
    histogram = [0] * (counts.canvas_length + 1)
    for width, num_emitted in zip(counts.widths, counts.emitted, strict=True):
        histogram[num_emitted] += width != 0
    positions = sum(counts.widths)
    return {
        "mean_acceptance_length": metrics.tokens_per_step,
        "draft_acceptance_rate": metrics.num_tokens / positions if positions else 0.0,
        "acceptance_histogram": histogram,
        "num_spec_steps": metrics.num_denoising_steps,
        "num_accepted_draft_tokens": metrics.num_tokens,
        "num_draft_tokens": positions,
        "num_spec_tokens": counts.canvas_length,
        "diffusion": metrics.to_dict(),
    }
