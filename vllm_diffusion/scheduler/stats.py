"""What the engine core counts: forwards by kind and denoising steps by block.

``vllm_diffusion.counters`` says how the counts travel to the front end.
"""

from __future__ import annotations

from dataclasses import dataclass

from vllm.v1.metrics.stats import RequestSpecDecodeMetrics
from vllm.v1.spec_decode.metrics import SpecDecodingStats

from vllm_diffusion.counters import EngineCounts, RequestCounts


@dataclass(slots=True)
class Account:
    """One request, and the steps of its block so far."""

    counts: RequestCounts
    num_steps: int = 0


class DecodeStats:
    """The accounts of all requests, and the counts between two reports."""

    def __init__(self, canvas_length: int) -> None:
        self.canvas_length = canvas_length
        self.accounts: dict[str, Account] = {}
        self.held = EngineCounts(canvas_length=canvas_length)

    def open(self, request_id: str) -> None:
        """Start counting for a request."""
        self.accounts[request_id] = Account(RequestCounts(canvas_length=self.canvas_length))

    def close(self, request_id: str) -> None:
        """Stop counting for a request."""
        self.accounts.pop(request_id, None)

    def prefilled(self, request_id: str) -> None:
        """A forward of prompt blocks without a canvas: it has no canvas positions."""
        self.held.num_prefill_forwards += 1
        counts = self.accounts[request_id].counts
        counts.widths.append(0)
        counts.emitted.append(0)

    def denoised(
        self,
        request_id: str,
        *,
        width: int,
        num_emitted: int,
        is_approximate: bool = False,
    ) -> None:
        """A denoising step; ``num_emitted`` is 0 unless the block has converged.

        The forward that seeds a block is one of its steps.
        """
        account = self.accounts[request_id]
        counts = account.counts
        if is_approximate:
            counts.approximate.append(len(counts.widths))
            self.held.num_approximate_forwards += 1
        counts.widths.append(width)
        counts.emitted.append(num_emitted)
        account.num_steps += 1
        if num_emitted:
            self.held.blocks_by_steps[min(account.num_steps, self.canvas_length) - 1] += 1
            account.num_steps = 0

    def restarted(self, request_id: str) -> None:
        """The request was preempted: its block starts over."""
        self.accounts[request_id].num_steps = 0

    def of_request(self, request_id: str) -> RequestSpecDecodeMetrics:
        """The request's record."""
        return RequestSpecDecodeMetrics(**self.accounts[request_id].counts.encoded())

    def hold(self, stats: SpecDecodingStats | None) -> None:
        """Add what vLLM has counted of a step to what the next report will carry."""
        if stats is not None:
            self.held.num_denoising_steps += stats.num_drafts
            self.held.num_positions += stats.num_draft_tokens
            self.held.num_tokens += stats.num_accepted_tokens

    def report(self) -> SpecDecodingStats:
        """What was held since the last report."""
        stats = SpecDecodingStats(**self.held.encoded())
        self.held = EngineCounts(canvas_length=self.canvas_length)
        return stats
