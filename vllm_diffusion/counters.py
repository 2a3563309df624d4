"""What the engine core counts, as records, and how they travel to the front end.

vLLM leaves no room for a record of a plugin's own. The front end decodes messages by type
(``MsgpackDecoder(EngineCoreOutputs)`` in ``vllm.v1.engine.core_client``), and two annotations
decide what arrives:

* ``EngineCoreOutput.spec_decode_metrics: RequestSpecDecodeMetrics | None`` (``vllm.v1.engine``)
* ``SchedulerStats.spec_decoding_stats: SpecDecodingStats | None`` (``vllm.v1.metrics.stats``)

msgspec drops every field that these dataclasses do not declare, a subclass's too. Both declare
lists of integers that diffusion models leave unused. ``encoded`` writes a record into them,
``decoded`` reads it out; no other file knows how. An empty list that is never empty in a record of
vLLM's own marks ours. A number is never a flag.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(slots=True, kw_only=True)
class RequestCounts:
    """One request's forwards, in order."""

    canvas_length: int
    widths: list[int] = field(default_factory=list)
    """Canvas positions of each forward; 0 for prompt chunks alone."""
    emitted: list[int] = field(default_factory=list)
    """Tokens that each forward settled; 0 while its block is unfinished."""
    approximate: list[int] = field(default_factory=list)
    """Indices of the forwards that read an approximate cache."""

    def encoded(self) -> dict[str, Any]:
        """Fields of vLLM's ``RequestSpecDecodeMetrics``."""
        return {
            "num_spec_tokens": self.canvas_length,
            "num_draft_tokens": sum(self.widths),
            "histogram": [],
            "per_step_accepted": [*self.emitted],
            "per_step_drafted": [*self.widths, *self.approximate],
        }

    @classmethod
    def decoded(cls, record: Any) -> Self | None:
        """What a ``RequestSpecDecodeMetrics`` carries; None where it is vLLM's own."""
        if record.histogram:
            return None
        num_forwards = len(record.per_step_accepted)
        return cls(
            canvas_length=record.num_spec_tokens,
            widths=record.per_step_drafted[:num_forwards],
            emitted=record.per_step_accepted,
            approximate=record.per_step_drafted[num_forwards:],
        )


@dataclass(slots=True, kw_only=True)
class EngineCounts:
    """All requests together, since the last report. A forward counts once a request."""

    canvas_length: int
    num_denoising_steps: int = 0
    num_positions: int = 0
    """Canvas positions of those steps."""
    num_tokens: int = 0
    """Tokens that were emitted."""
    num_prefill_forwards: int = 0
    num_approximate_forwards: int = 0
    blocks_by_steps: list[int] = field(default_factory=list)
    """How many blocks took 1, 2, ... denoising steps."""

    def __post_init__(self) -> None:
        self.blocks_by_steps = self.blocks_by_steps or [0] * self.canvas_length

    def encoded(self) -> dict[str, Any]:
        """Fields of vLLM's ``SpecDecodingStats``, whose own counters keep their meaning."""
        return {
            "num_spec_tokens": self.canvas_length,
            "num_drafts": self.num_denoising_steps,
            "num_draft_tokens": self.num_positions,
            "num_accepted_tokens": self.num_tokens,
            "num_draft_tokens_per_pos": [],
            "num_accepted_tokens_per_pos": [
                self.num_prefill_forwards,
                self.num_approximate_forwards,
                *self.blocks_by_steps,
            ],
        }

    @classmethod
    def decoded(cls, stats: Any) -> Self | None:
        """What a ``SpecDecodingStats`` carries; None where it is vLLM's own."""
        if stats.num_draft_tokens_per_pos:
            return None
        num_prefill, num_approximate, *blocks_by_steps = stats.num_accepted_tokens_per_pos
        return cls(
            canvas_length=stats.num_spec_tokens,
            num_denoising_steps=stats.num_drafts,
            num_positions=stats.num_draft_tokens,
            num_tokens=stats.num_accepted_tokens,
            num_prefill_forwards=num_prefill,
            num_approximate_forwards=num_approximate,
            blocks_by_steps=blocks_by_steps,
        )
