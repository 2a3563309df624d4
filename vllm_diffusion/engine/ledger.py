"""What the engine core counts: forwards by kind and denoising steps by block.

vLLM carries two records from the engine core to the front end that fit as they
are: ``RequestSpecDecodeMetrics`` of one request, whose detailed lists hold one
entry a forward, and ``SpecDecodingStats`` of one engine step, whose lists by
position diffusion models leave unused. ``vllm_diffusion.metrics`` reads both.
"""

from __future__ import annotations

from vllm.v1.metrics.stats import RequestSpecDecodeMetrics
from vllm.v1.request import Request
from vllm.v1.spec_decode.metrics import SpecDecodingStats


class Ledger:
    """Counts between two reports of the scheduler."""

    def __init__(self, canvas_length: int) -> None:
        self.canvas_length = canvas_length
        self.num_steps_of: dict[str, int] = {}
        self._reset()

    def _reset(self) -> None:
        self.num_prefill_forwards = 0
        self.blocks_by_steps = [0] * self.canvas_length

    def open(self, request: Request) -> None:
        """Start counting for ``request``, whatever the observability flags say."""
        if request.spec_decode_metrics is None:
            request.spec_decode_metrics = RequestSpecDecodeMetrics.new(self.canvas_length)
        self.num_steps_of[request.request_id] = 0

    def close(self, request: Request) -> None:
        """Stop counting for ``request``."""
        self.num_steps_of.pop(request.request_id, None)

    def prefilled(self, request: Request) -> None:
        """A forward of prompt blocks without a canvas: no canvas positions at all."""
        self.num_prefill_forwards += 1
        assert request.spec_decode_metrics is not None
        request.spec_decode_metrics.per_step_drafted.append(0)
        request.spec_decode_metrics.per_step_accepted.append(0)

    def denoised(self, request: Request, *, num_emitted: int) -> None:
        """A denoising step; ``num_emitted`` is 0 unless the block has converged."""
        steps = self.num_steps_of[request.request_id] + 1
        if num_emitted:
            self.blocks_by_steps[min(steps, self.canvas_length) - 1] += 1
            steps = 0
        self.num_steps_of[request.request_id] = steps

    def attach(self, stats: SpecDecodingStats | None) -> SpecDecodingStats | None:
        """Put the counts since the last call into the step's stats."""
        if stats is None and self.num_prefill_forwards == 0:
            return None
        if stats is None:
            stats = SpecDecodingStats.new(self.canvas_length)
        stats.num_draft_tokens_per_pos = [self.num_prefill_forwards]
        stats.num_accepted_tokens_per_pos = self.blocks_by_steps
        self._reset()
        return stats
