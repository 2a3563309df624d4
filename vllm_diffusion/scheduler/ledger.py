"""What the engine core counts: forwards by kind and denoising steps by block.

vLLM carries two records from the engine core to the front end that fit as they
are: ``RequestSpecDecodeMetrics`` of one request, whose lists hold one entry a
forward here, and ``SpecDecodingStats`` of one engine step, whose lists by
position diffusion models leave unused. ``vllm_diffusion.metrics`` reads both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vllm.v1.metrics.stats import RequestSpecDecodeMetrics
from vllm.v1.spec_decode.metrics import SpecDecodingStats


@dataclass(slots=True)
class _Account:
    """One request: canvas positions and emitted tokens, an entry a forward.

    A width is negative where the forward read an approximate cache.
    """

    widths: list[int] = field(default_factory=list)
    emitted: list[int] = field(default_factory=list)
    num_steps: int = 0


class Ledger:
    """The accounts of all requests, and the counts between two reports."""

    def __init__(self, canvas_length: int) -> None:
        self.canvas_length = canvas_length
        self.accounts: dict[str, _Account] = {}
        self._reset()

    def _reset(self) -> None:
        self.held = SpecDecodingStats.new(self.canvas_length)
        self.num_prefill_forwards = 0
        self.num_approximate_forwards = 0
        self.blocks_by_steps = [0] * self.canvas_length

    def open(self, request_id: str) -> None:
        """Start counting for a request."""
        self.accounts[request_id] = _Account()

    def close(self, request_id: str) -> None:
        """Stop counting for a request."""
        self.accounts.pop(request_id, None)

    def prefilled(self, request_id: str) -> None:
        """A forward of prompt blocks without a canvas: it has no canvas positions."""
        self.num_prefill_forwards += 1
        account = self.accounts[request_id]
        account.widths.append(0)
        account.emitted.append(0)

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
        # The records that carry this have no place for a flag.
        account.widths.append(-width if is_approximate else width)
        account.emitted.append(num_emitted)
        self.num_approximate_forwards += is_approximate
        account.num_steps += 1
        if num_emitted:
            self.blocks_by_steps[min(account.num_steps, self.canvas_length) - 1] += 1
            account.num_steps = 0

    def restarted(self, request_id: str) -> None:
        """The request was preempted: its block starts over."""
        self.accounts[request_id].num_steps = 0

    def of_request(self, request_id: str) -> RequestSpecDecodeMetrics:
        """The request's record. Its histogram stays empty, which marks it as ours."""
        account = self.accounts[request_id]
        return RequestSpecDecodeMetrics(
            num_spec_tokens=self.canvas_length,
            num_draft_tokens=sum(map(abs, account.widths)),
            per_step_accepted=account.emitted,
            per_step_drafted=account.widths,
        )

    def hold(self, stats: SpecDecodingStats | None) -> None:
        """Add a step's stats to those that the next report will carry."""
        if stats is not None:
            self.held.num_drafts += stats.num_drafts
            self.held.num_draft_tokens += stats.num_draft_tokens
            self.held.num_accepted_tokens += stats.num_accepted_tokens

    def report(self) -> SpecDecodingStats:
        """What was held since the last report, the counts in its lists by position."""
        stats = self.held
        stats.num_draft_tokens_per_pos = [
            self.num_prefill_forwards,
            self.num_approximate_forwards,
        ]
        stats.num_accepted_tokens_per_pos = self.blocks_by_steps
        self._reset()
        return stats
