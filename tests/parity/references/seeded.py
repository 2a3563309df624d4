"""Decoding of an output that begins with held tokens, drafts and holes, for all three mask groups.

A seed has a token or the mask a position; positions that are ``pinned`` stay as they are. Each
block is one list of ``Cell``, so this shares its loop with none of the other references.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.parity.references.block_causal import block_causal_mask
from tests.parity.references.causal_context import canvas_mask
from tests.parity.references.choose import Answer, Rule, choose, lead, without
from tests.parity.references.dream import POLICIES, Schedule
from tests.parity.references.stale import stale_logits

Look = Callable[[list[int], int, int], Tensor]
CONTEXT, REACH = 8, 128


@dataclass
class Cell:
    """One position of a block."""

    token: int | None = None
    """As settled."""
    draft: int | None = None
    """Not read yet."""
    is_pinned: bool = False


@torch.inference_mode()
def generate(
    network: Any,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    group: str,
    mask_id: int,
    block: int,
    seed_canvas: Sequence[int] = (),
    draft: Sequence[int] = (),
    pinned: Collection[int] = (),
    policy: str = "confidence",
    threshold: float = 0.9,
    steps: int | None = None,
    shift: bool = False,
    seed: bool = False,
    sub_block: int | None = None,
    edit_threshold: float | None = None,
    max_post_steps: int = 16,
    guidance: float = 0.0,
    kv_cache: str | None = None,
    stop_ids: Collection[int] = (),
    max_len: int = 1024,
) -> Answer:
    """Decode greedily, block by block; the arguments are those of the other references.

    Args:
        group: "full", "block_causal" or "causal_context".
        seed_canvas: the output's first tokens.
        draft: in its place a text that follows what is decoded.
        pinned: positions of it that are held.
    """
    last = min(len(prompt) + max_tokens, max_len)
    last_pin = max(pinned, default=-1)
    keep = threshold if policy == "confidence" else 0.9
    known, count, slack = list(prompt), 0, float("inf")
    laid, moved = draft or seed_canvas, 0  # how far the draft has moved against the text

    def cell(at: int) -> Cell:
        """The position ``at`` of the sequence, before it is decoded."""
        place = at - len(prompt) + moved
        token = laid[place] if place < len(laid) else mask_id
        if place in pinned:
            return Cell(token=token, is_pinned=True)
        is_hole = token == mask_id or (token in stop_ids and place < last_pin)
        return Cell() if is_hole else Cell(draft=token)

    def shown(cells: list[Cell]) -> list[int]:
        return [first(one.token, one.draft, mask_id) for one in cells]

    def held(at: int) -> int:
        return first(cell(at).token, mask_id)

    def look(cells: list[Cell], before: list[int]) -> Tensor:
        """What the network says of the block's positions."""
        start, tokens = len(known), known + shown(cells)
        if group == "block_causal":
            mask, blocks = block_causal_mask(len(tokens), block), torch.arange(len(tokens)) // block
            # A block that starts with nothing known has its first token already.
            rows = [row - shift * (row % block > 0) for row in range(start, len(tokens))]
            return network.logits(tokens, mask, blocks)[rows]
        if group == "causal_context":
            return network.logits(tokens, canvas_mask(len(tokens), start))[start:]
        end = len(tokens)
        tokens += [held(at) for at in range(end, last)]
        rows = [max(row - shift, 0) for row in range(start, end)]
        if kv_cache is None:
            conditional = network.logits(tokens, torch.ones(len(tokens), len(tokens)).bool())[rows]
        else:
            fresh = range(rows[0], end if kv_cache == "dual" else len(tokens))
            logits = stale_logits(network, before or tokens, tokens, fresh)
            conditional = logits[[row - fresh.start for row in rows]]
        if not guidance:
            return conditional
        hidden = [mask_id] * len(prompt) + tokens[len(prompt) :]
        unconditional = network.logits(hidden, torch.ones(len(hidden), len(hidden)).bool())[rows]
        return unconditional + (guidance + 1) * (conditional - unconditional)

    def forbidden(logits: Tensor, start: int) -> Tensor:
        """Without the mask, and in front of what is held without what ends the text."""
        logits = without(mask_id, logits)
        num = min(max(len(prompt) + last_pin - start, 0), len(logits))
        logits[:num, list(stop_ids)] = -torch.inf
        return logits

    while True:
        start = len(known)
        width = {
            "full": min(block, last - start),
            "block_causal": block - start % block,
            "causal_context": min(block, max_len - start),
        }[group]
        cells = [cell(at) for at in range(start, start + width)]
        end, done = min(width, last - start), None
        if seed and (group == "causal_context" or start % block == 0):
            mask = (
                block_causal_mask(start, block)
                if group == "block_causal"
                else canvas_mask(start, start)
            )
            row = forbidden(network.logits(known, mask)[-1:], start)
            if not cells[0].is_pinned:
                cells[0] = Cell(token=int(row.argmax()))
                slack = min(slack, lead(row))
            count += 1
            done = 1 if cells[0].token in stop_ids or end == 1 else None
        rule = Rule(policy, threshold, block, steps)
        dream = Schedule(policy, steps or width, start, None)
        step, num_post, before = 0, 0, []
        while done is None:
            logits = forbidden(look(cells, before), start)
            before = before or known + shown(cells) + [
                held(at) for at in range(start + width, last)
            ]
            masked = [i for i, one in enumerate(cells) if one.token is None]
            if sub_block is not None and masked:
                offset = start % block
                piece = (offset + masked[0]) // sub_block
                masked = [i for i in masked if (offset + i) // sub_block == piece]
            drafted = [i for i, one in enumerate(cells) if one.draft is not None]
            masked = [i for i in masked if i not in drafted]
            was_masked = any(one.token is None for one in cells)
            accepted, gap = [], float("inf")
            if masked and policy in POLICIES:
                accepted, gap = dream.choose(masked, logits)
            elif masked:
                accepted, gap = choose(policy, threshold, rule.floor(step), masked, logits)
            edits, edit_gap = editable(cells, edit_threshold, logits)
            kept, draft_gap = trusted(cells, keep, logits)
            slack = min(slack, gap, edit_gap, draft_gap)
            for i in accepted + edits:
                cells[i].token = int(logits[i].argmax())
            for i in drafted:
                cells[i] = Cell(token=cells[i].draft if i in kept else None)
            step += bool(masked or not drafted)
            count += 1
            is_open = any(one.token is None for one in cells)
            if edit_threshold is None:
                done = length(cells, end, stop_ids)
            elif not is_open:
                num_post += not was_masked
                if num_post >= max_post_steps or not (was_masked or edits):
                    done = length(cells, end, stop_ids)
        known += [first(one.token) for one in cells[:done]]
        if known[-1] in stop_ids or len(known) >= last:
            return Answer(known[len(prompt) :], count, slack)
        if draft:
            text = known[len(prompt) :]
            expected = len(text) + moved
            moved = goes_on(text, draft, expected) - len(text)


def goes_on(text: Sequence[int], draft: Sequence[int], expected: int) -> int:
    """Where in the draft the text goes on: where most of its last tokens stand in front of it."""
    best, best_key = expected, (-1, -REACH, False)
    for place in range(max(0, expected - REACH), min(len(draft), expected + REACH) + 1):
        pairs = zip(reversed(text[-CONTEXT:]), reversed(draft[:place]), strict=False)
        score = sum(CONTEXT - back for back, (one, other) in enumerate(pairs) if one == other)
        key = (score, -abs(place - expected), place < expected)
        if key > best_key:
            best, best_key = place, key
    return best


def first(*values: int | None) -> int:
    """The first that is not None."""
    return next(value for value in values if value is not None)


def length(cells: list[Cell], end: int, stop_ids: Collection[int]) -> int | None:
    """Positions that are final, None while the block has not converged."""
    for i, one in enumerate(cells[:end]):
        if one.token is None:
            return None
        if one.token in stop_ids:
            return i + 1
    return end


def trusted(cells: list[Cell], keep: float, logits: Tensor) -> tuple[list[int], float]:
    """Drafts that the model does not doubt, and the closest decision's distance."""
    kept, gaps = [], [float("inf")]
    for i, one in enumerate(cells):
        if one.draft is None:
            continue
        prob = float(logits[i].softmax(-1)[one.draft])
        gaps.append(abs(prob - keep))
        if prob > 0 and prob >= keep:
            kept.append(i)
    return kept, min(gaps)


def editable(cells: list[Cell], threshold: float | None, logits: Tensor) -> tuple[list[int], float]:
    """Settled positions whose argmax is another token, surer than the threshold."""
    edits, gaps = [], [float("inf")]
    if threshold is None:
        return edits, min(gaps)
    for i, one in enumerate(cells):
        if one.token is None or one.is_pinned:
            continue
        top = logits[i].softmax(-1).topk(2).values.tolist()
        if one.token == int(logits[i].argmax()):
            gaps.append(max(lead(logits[i]), threshold - top[1]))
        elif top[0] > threshold:
            edits.append(i)
            gaps.append(min(lead(logits[i]), top[0] - threshold))
        else:
            gaps.append(threshold - top[0])
    return edits, min(gaps)
