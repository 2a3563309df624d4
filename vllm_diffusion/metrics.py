"""How a request was decoded: forwards by kind, blocks by steps, tokens per forward.

``output.spec_decode_metrics`` of a finished ``LLM()`` output holds the counts of its forwards
(``vllm_diffusion.counters``); ``decode_metrics(output)`` makes numbers of them. The same numbers
are in the ``metrics`` of an HTTP response, and summed over requests on ``/metrics``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from vllm_diffusion.counters import RequestCounts


class _Output(Protocol):
    spec_decode_metrics: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeMetrics:
    """What one request cost. A forward is counted once a request it served."""

    num_tokens: int
    """Tokens that the engine settled, the stop token included; a stop string, which the
    front end finds, may cut some of the last block's off the text."""
    num_denoising_steps: int
    """Forwards with a canvas; the last prompt chunk and every commit ride in them."""
    num_prefill_forwards: int
    """Forwards of prompt chunks alone."""
    num_approximate_forwards: int = 0
    """Denoising steps that reused K and V that are not exact, as the request had asked."""
    blocks_by_steps: dict[int, int]
    """How many blocks took how many denoising steps."""

    @property
    def num_forwards(self) -> int:
        return self.num_denoising_steps + self.num_prefill_forwards

    @property
    def tokens_per_forward(self) -> float:
        """Emitted tokens over all forwards."""
        return self.num_tokens / self.num_forwards if self.num_forwards else 0.0

    @property
    def tokens_per_step(self) -> float:
        """Emitted tokens over denoising steps, prompt chunks left out."""
        return self.num_tokens / self.num_denoising_steps if self.num_denoising_steps else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {
            "num_forwards": self.num_forwards,
            "tokens_per_forward": self.tokens_per_forward,
            "warning": self.warning,
        }

    @property
    def warning(self) -> str | None:
        """What the reader of the text should know."""
        if not self.num_approximate_forwards:
            return None
        return (
            f"{self.num_approximate_forwards} of {self.num_forwards} forwards reused approximate "
            "K and V, because of diffusion_kv_cache: the text may differ from the exact one"
        )


def count(counts: RequestCounts) -> DecodeMetrics:
    """Add up a request's forwards."""
    blocks_by_steps: Counter[int] = Counter()
    steps = 0
    for width, num_emitted in zip(counts.widths, counts.emitted, strict=True):
        steps += width != 0
        if num_emitted:
            blocks_by_steps[steps] += 1
            steps = 0
    num_prefill = counts.widths.count(0)
    return DecodeMetrics(
        num_tokens=sum(counts.emitted),
        num_denoising_steps=len(counts.widths) - num_prefill,
        num_prefill_forwards=num_prefill,
        num_approximate_forwards=len(counts.approximate),
        blocks_by_steps=dict(sorted(blocks_by_steps.items())),
    )


def decode_metrics(output: _Output) -> DecodeMetrics:
    """The metrics of one finished completion of ``LLM.generate`` or ``LLM.chat``.

    Raises:
        ValueError: the output is not finished, or not of a diffusion model.
    """
    record = output.spec_decode_metrics
    counts = None if record is None else RequestCounts.decoded(record)
    if counts is None:
        raise ValueError(
            "this output has no decode metrics: it is unfinished, or its model is not one of "
            "vllm_diffusion's"
        )
    return count(counts)
