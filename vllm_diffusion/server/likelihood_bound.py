"""LLaDA's Monte-Carlo bound of a text's log-probability (arXiv 2502.09992, equation 6).

``B = E[ (L / l) * sum over the l masked of log P(token | all that is shown) ]``: ``l`` is uniform
over 1..L, and which ``l`` of a piece's L tokens are masked is uniform as well. ``B`` is at most the
log-probability of the piece. It is linear in the tokens, so that each has a share of it.

With full attention a piece is the text from the cut on. Block-causal, it is that of one block,
since the bound of a text is the sum of those of its blocks.

Draws are a function of seed, samples and the piece's length alone: ``masks_of`` says which. So an
estimate does not depend on the company, and options of one length are compared on the same masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from vllm.sampling_params import RequestOutputKind, SamplingParams

from vllm_diffusion.decisions.trie import MOST_TOKENS
from vllm_diffusion.request.plan import DecodePlan
from vllm_diffusion.request.seed_canvas import PINNED, SEED
from vllm_diffusion.server.label_reads import Reader, decode_fields

Mask = tuple[int, ...]
"""Masked positions of a piece, from its start."""


class Piece(NamedTuple):
    """Tokens whose bound is estimated together, all before them being shown."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """L."""
        return self.end - self.start


class Window(NamedTuple):
    """One read: positions of a masked text that one canvas holds."""

    text: Sequence[int]
    piece: Piece
    mask: Mask
    first: int
    """Where the canvas begins."""
    asked: Sequence[int]
    """Masked positions of the text that are read, all of them in the canvas."""
    weight: float
    """Of its draw in the estimate."""


class Heard(NamedTuple):
    """What a window says of one position."""

    log: float
    top: int
    top_log: float


class Share(NamedTuple):
    """A token's part of a piece's bound."""

    log: float
    top: int
    """The token that a read preferred most to it; the token itself where none did."""
    top_log: float
    """Of the same reads, had the text held the most probable token in each."""


def masks_of(length: int, samples: int, seed: int) -> dict[Mask, float]:
    """The masks of a piece of L tokens, each with its weight; equal ones are drawn once.

    ``random_sample`` of numpy's ``RandomState(seed)`` gives one number u, then S rows of L keys.
    Sample s masks ``(floor(u * L) + s * L // S) % L + 1`` positions, those with the smallest keys:
    the counts are spread evenly, as in LLaDA's own evaluation.
    """
    state = np.random.RandomState(seed % 2**32)
    offset = int(state.random_sample() * length)
    order_SL = state.random_sample((samples, length)).argsort(axis=1, kind="stable")
    weights: dict[Mask, float] = {}
    for sample in range(samples):
        count = (offset + sample * length // samples) % length + 1
        mask = tuple(sorted(order_SL[sample, :count].tolist()))
        weights[mask] = weights.get(mask, 0.0) + length / count / samples
    return weights


def most_masks(length: int, samples: int) -> int:
    """That ``masks_of`` can give."""
    return min(samples, 2 ** min(length, 60) - 1)


def end_of(position: int, num: int, plan: DecodePlan) -> int:
    """Where the piece that begins at a position of a text of ``num`` tokens ends."""
    if plan.record.mask_group.recomputes:
        return num
    block = plan.defaults.block_length
    return min(num, position - position % block + block)


def pieces_of(num: int, cut: int | None, plan: DecodePlan) -> list[Piece]:
    """Of the text behind ``cut``; without one, those of every cut there may be."""
    if cut is None:
        return [Piece(start, end_of(start, num, plan)) for start in range(1, num)]
    pieces = []
    while cut < num:
        pieces.append(Piece(cut, end_of(cut, num, plan)))
        cut = pieces[-1].end
    return pieces


def num_windows(piece: Piece, samples: int, plan: DecodePlan) -> int:
    """The most that ``windows_of`` gives."""
    width = plan.defaults.block_length
    canvases = -(-piece.length // width)
    return (
        most_masks(piece.length, samples) * canvases * -(-min(width, piece.length) // MOST_TOKENS)
    )


def windows_of(
    text: Sequence[int], piece: Piece, samples: int, seed: int, plan: DecodePlan
) -> Iterator[Window]:
    """Every read of a piece."""
    width = plan.defaults.block_length
    for mask, weight in masks_of(piece.length, samples, seed).items():
        masked = [piece.start + offset for offset in mask]
        for first in range(piece.start, piece.end, width):
            inside = [at for at in masked if first <= at < first + width]
            for some in range(0, len(inside), MOST_TOKENS):
                asked = inside[some : some + MOST_TOKENS]
                yield Window(text, piece, mask, first, asked, weight)


class WindowReader(Reader):
    """Reads windows; ``all`` takes and gives lists of them."""

    def params(self, read: Any) -> SamplingParams:
        """One step over a canvas that is laid but for its masks."""
        seed = self.masked(read)[read.first :]
        mask_id = self.plan.mask_id
        laid = {SEED: seed, PINNED: [at for at, token in enumerate(seed) if token != mask_id]}
        return SamplingParams(
            max_tokens=len(seed),
            temperature=0.0,
            ignore_eos=True,
            logprob_token_ids=sorted({read.text[at] for at in read.asked}),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args=decode_fields(self.plan) | laid,
        )

    def prompt(self, read: Any) -> list[int]:
        """What stands before the canvas. With full attention it may hold masks as well."""
        return self.masked(read)[: read.first]

    def masked(self, read: Window) -> list[int]:
        """The text up to the piece's end."""
        tokens = list(read.text[: read.piece.end])
        for offset in read.mask:
            tokens[read.piece.start + offset] = self.plan.mask_id
        return tokens

    def seen(self, output: Any, read: Any) -> Any:
        """``Heard`` of each position that is asked for."""
        completion = output.outputs[0]
        heard = []
        for at in read.asked:
            logs, top = completion.logprobs[at - read.first], completion.token_ids[at - read.first]
            heard.append(Heard(logs[read.text[at]].logprob, int(top), logs[top].logprob))
        return heard


def shares_of(
    text: Sequence[int], windows: Sequence[Window], heard: Sequence[Sequence[Heard]]
) -> dict[Piece, dict[int, Share]]:
    """Each piece's bound, by position."""
    shares: dict[Piece, dict[int, Share]] = {}
    gaps: dict[tuple[Piece, int], float] = {}
    for window, all_heard in zip(windows, heard, strict=True):
        piece, weight = window.piece, window.weight
        known = shares.setdefault(piece, {at: Share(0.0, text[at], 0.0) for at in range(*piece)})
        for at, (log, top, top_log) in zip(window.asked, all_heard, strict=True):
            was, gap = known[at], 0.0 if top == text[at] else top_log - log
            prefers = gap > gaps.get((piece, at), 0.0)
            if prefers:
                gaps[piece, at] = gap
            known[at] = Share(
                was.log + weight * log,
                top if prefers else was.top,
                was.top_log + weight * (log + gap),
            )
    return shares


def by_token(
    num: int, cut: int | None, shares: dict[Piece, dict[int, Share]]
) -> list[Share | None]:
    """What stands beside each token of a text, so that sums from the cut on are its bound.

    Without a cut every sum is one: a token has the bound of what begins with it, less that of what
    begins behind it. Its alternative is as much better as in the reads of the former.
    """
    told: list[Share | None] = [None] * num
    if cut is not None:
        for known in shares.values():
            for at, share in known.items():
                told[at] = share
        return told
    totals = {piece: sum(share.log for share in known.values()) for piece, known in shares.items()}
    for piece, known in shares.items():
        own = known[piece.start]
        log = totals[piece] - totals.get(Piece(piece.start + 1, piece.end), 0.0)
        told[piece.start] = Share(log, own.top, log + own.top_log - own.log)
    return told
