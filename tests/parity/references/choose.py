"""What the reference decoders share: which positions a step accepts, and when a block ends.

A canvas is a list with a token or None (masked) a position; ``logits`` has a row for each
of its positions, with the mask token's column at -inf.
"""

from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class Network(Protocol):
    """A plain forward pass over a whole sequence."""

    def logits(self, tokens: list[int], mask: Tensor, blocks: Any = None) -> Tensor:
        """Float32 (T, V) of T tokens at positions 0..T-1; ``mask[i, j]``: i sees j.

        ``blocks`` (T) are the tokens' blocks, for routers of experts that decide for a block.
        """
        ...


class Answer(NamedTuple):
    """What a decoder answers to a prompt."""

    tokens: list[int]
    steps: int
    slack: float
    """How far the closest decision was from flipping: in a probability, a margin, an entropy or
    a logit. Below a test's bound, rounding may decode otherwise."""


class Rule(NamedTuple):
    """An acceptance policy with its bound, and the steps that its schedule spreads a block over."""

    policy: str
    threshold: float
    block: int
    steps: int | None = None

    def floor(self, step: int) -> int:
        """Positions that step ``step`` accepts at least: LLaDA's ``get_num_transfer_tokens``."""
        steps = self.steps or self.block
        return max(1, self.block // steps + (step < self.block % steps))


def choose(
    policy: str, threshold: float, floor: int, masked: Sequence[int], logits: Tensor
) -> tuple[list[int], float]:
    """Return the accepted positions among ``masked`` and the closest decision's distance.

    confidence: p1 > threshold; margin: p1 - p2 > threshold; entropy: the longest prefix, surest
    first, with a summed entropy <= threshold; all others: nothing beyond the ``floor`` best.
    ``topk_margin`` and ``topk_entropy`` rank like margin and entropy, the rest by p1.
    """
    if not masked:
        return [], float("inf")
    probs = logits.softmax(-1)
    top = probs.topk(2).values
    entropy = torch.special.entr(probs).sum(-1)
    scores = {"margin": top[:, 0] - top[:, 1], "entropy": -entropy}
    score = scores.get(policy.removeprefix("topk_"), top[:, 0]).tolist()
    ranked = sorted(masked, key=lambda i: (-score[i], i))
    room = []  # how far inside of the policy's bound each ranked position is
    within = 0
    if policy == "entropy":
        room = [threshold - spent for spent in accumulate(-score[i] for i in ranked)]
        within = sum(r >= 0 for r in room)
    elif policy in ("confidence", "margin"):
        room = [score[i] - threshold for i in ranked]
        within = sum(r > 0 for r in room)
    taken = min(len(ranked), max(floor, within))
    gaps = [abs(r) for r in room[floor:]]
    if taken < len(ranked):
        gaps.append(score[ranked[taken - 1]] - score[ranked[taken]])
    return ranked[:taken], min([*gaps, lead(logits[ranked[:taken]])])


def lead(logits: Tensor) -> float:
    """The smallest distance of an argmax from its runner-up, over the rows."""
    first, second = logits.topk(2).values.unbind(-1)
    return float((first - second).min())


def without(mask_id: int, logits: Tensor) -> Tensor:
    """The logits when the mask token is no candidate."""
    logits = logits.clone()
    logits[..., mask_id] = -torch.inf
    return logits


def filled(canvas: Sequence[int | None], mask_id: int) -> list[int]:
    """The canvas as the network reads it."""
    return [mask_id if token is None else token for token in canvas]


def settled(
    canvas: Sequence[int | None], known: int, end: int, stop_ids: Collection[int]
) -> int | None:
    """Length of the canvas that is final, or None while it has not converged.

    It has when nothing masked is left before ``end`` or before an accepted stop token,
    which the first ``known`` positions cannot hold.
    """
    for i in range(known, end):
        if canvas[i] is None:
            return None
        if canvas[i] in stop_ids:
            return i + 1
    return end
