"""Which tokens a step computes of a request, by mask group.

A request has N known tokens (prompt and emitted), and K and V that are final
up to where its next query starts. A *span* is everything that the next step
has to compute behind that; where the token budget is too small for it, a query
is as much of the known tokens as fits, and the canvas waits.

A request goes through phases, which only depend on what its steps emitted:

* ``DENOISE``: a forward of the canvas, until the block has converged;
* ``SEED``: where blocks start with the autoregressive token, the forward that
  makes the known tokens' K and V final and reads the seed off the last of them;
* ``DRAFT`` and ``VERIFY``: self-speculation's two forwards of the same canvas.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.request.params import DecodeParams


class Phase(Enum):
    """What the step does with the canvas."""

    DENOISE = auto()
    SEED = auto()
    DRAFT = auto()
    VERIFY = auto()


@dataclass(frozen=True, slots=True)
class Span:
    """Positions are counted from the request's first token."""

    end: int
    """The query ends here."""
    width: int
    """Canvas positions behind the known tokens that get logits."""
    whole_until: int
    """A query that is cut short may end anywhere up to here, at a multiple of ``grain``."""
    grain: int


@dataclass(slots=True)
class Progress:
    """What the scheduler remembers of a request between steps."""

    decode: DecodeParams
    num_prompt: int
    last: int
    """No canvas position is at or behind this one: ``max_tokens`` or ``max_model_len``."""
    is_seeded: bool = False
    """The first token of the block is in the canvas, not emitted yet.

    A step that emits ends the block, a seed step too (where a grammar leaves no choice, it fills
    the whole canvas): the next block needs a seed of its own.
    """
    is_drafted: bool = False
    is_warm: bool = False
    """A full-attention block has had its first forward, so caches of it exist."""

    def restart(self) -> None:
        """The request lost its K and V."""
        self.is_seeded = self.is_drafted = self.is_warm = False


class BlockCausal:
    """Blocks of B aligned to the first token; a query covers whole blocks.

    With A = N // B * B, the canvas is [A, A + B), whose first N - A tokens are
    pinned. The block before it rides along if it has just been finished: the
    forward that makes its K and V final costs nothing extra.
    """

    def __init__(self, record: FamilyRecord, page: int = 1) -> None:
        self.has_seed = record.has_seed

    def phase(self, known: int, progress: Progress) -> Phase:
        """What the next whole step will be."""
        at_border = known % progress.decode.block_length == 0
        if self.has_seed and at_border and not progress.is_seeded:
            return Phase.SEED
        return Phase.DENOISE

    def span(self, known: int, progress: Progress) -> Span:
        """The next step's span, K and V being final up to some block border."""
        block = progress.decode.block_length
        start = known // block * block
        if self.phase(known, progress) is Phase.SEED:
            # The seed is read off row N - 1, which a query that is cut short must leave.
            return Span(end=known + 1, width=1, whole_until=known - 1, grain=block)
        return Span(end=start + block, width=start + block - known, whole_until=start, grain=block)

    def advance(self, known: int, emitted: int, progress: Progress) -> int:
        """Account for a whole step; returns where the next query starts.

        Args:
            known: N, before the step.
            emitted: tokens that the step added to them.
            progress: as before the step; brought up to date.
        """
        is_seed = self.phase(known, progress) is Phase.SEED
        progress.is_seeded = emitted == 0 and (is_seed or progress.is_seeded)
        # Not behind the block, converged or not: its K and V count from the
        # next forward, the first whose inputs are final.
        block = progress.decode.block_length
        return known // block * block


class CausalContext:
    """A causal context of N tokens, and behind it a canvas that it does not see.

    K and V of the canvas are scratch; the next seed step makes them final.
    """

    def __init__(self, record: FamilyRecord, page: int = 1) -> None:
        self.has_seed = record.has_seed

    def phase(self, known: int, progress: Progress) -> Phase:
        if self.has_seed and not progress.is_seeded:
            return Phase.SEED
        if progress.decode.policy != "self_speculation":
            return Phase.DENOISE
        return Phase.VERIFY if progress.is_drafted else Phase.DRAFT

    def span(self, known: int, progress: Progress) -> Span:
        if self.phase(known, progress) is Phase.SEED:
            return Span(end=known + 1, width=1, whole_until=known - 1, grain=1)
        end = min(known + progress.decode.block_length, progress.last)
        return Span(end=end, width=end - known, whole_until=known, grain=1)

    def advance(self, known: int, emitted: int, progress: Progress) -> int:
        phase = self.phase(known, progress)
        progress.is_drafted = phase is Phase.DRAFT
        # A verification reads the next block's seed as well.
        progress.is_seeded = phase is Phase.VERIFY or emitted == 0
        # What a verification accepts was read causally, so it is final.
        return known + emitted if phase is Phase.VERIFY else known


class Full:
    """Everything sees everything: prompt and all ``max_tokens`` of the output.

    Nothing is final before the end, so every exact step computes all of it. The
    approximate caches keep what the block's first forward computed outside of
    the block, up to the block's start (``prefix``) or on both sides (``dual``).
    A guided query holds the sequence twice (``guidance``).
    """

    def __init__(self, record: FamilyRecord, page: int = 1) -> None:
        self.shift = int(record.logit_shift)
        self.page = page

    def phase(self, known: int, progress: Progress) -> Phase:
        return Phase.DENOISE

    def span(self, known: int, progress: Progress) -> Span:
        width = min(progress.decode.block_length, progress.last - known)
        is_dual = progress.is_warm and progress.decode.kv_cache == "dual"
        end = known + width if is_dual else progress.last
        if progress.decode.guidance_scale:
            end += int(second_start(progress.last, self.page))
        return Span(end=end, width=width, whole_until=0, grain=1)

    def advance(self, known: int, emitted: int, progress: Progress) -> int:
        progress.is_warm = emitted == 0 and progress.decode.kv_cache != "exact"
        # Row N - 1 is computed again where it predicts token N.
        return known - self.shift if progress.is_warm else 0


def second_start(length: Any, page: int) -> Any:
    """Where the unconditional sequence starts in a guided query, int or array: the next page."""
    return -(-length // page) * page


def longest_guided(max_model_len: int, page: int) -> int:
    """The longest sequence that fits twice."""
    return max_model_len // page // 2 * page


SpanRule = BlockCausal | CausalContext | Full

SPAN_RULES: dict[str, type[SpanRule]] = {
    "block_causal": BlockCausal,
    "causal_context": CausalContext,
    "full": Full,
}
