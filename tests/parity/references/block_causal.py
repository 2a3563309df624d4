"""Block diffusion under a block-causal mask: SDAR, LLaDA2.0 and 2.1, Fast-dLLM v2 and their kin.

Blocks of B are counted from token 0, and token i sees j iff ``j // B <= i // B``. What a prompt
leaves of its last block stands pinned in the first canvas.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from tests.parity.references.choose import (
    Answer,
    Network,
    Rule,
    choose,
    filled,
    lead,
    settled,
    without,
)


def block_causal_mask(length: int, block: int) -> Tensor:
    """Bool (T, T)."""
    number = torch.arange(length) // block
    return number[None, :] <= number[:, None]


@torch.inference_mode()
def generate(
    network: Network,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    mask_id: int,
    block: int,
    policy: str = "confidence",
    threshold: float = 0.9,
    steps: int | None = None,
    edit_threshold: float | None = None,
    max_post_steps: int = 16,
    sub_block: int | None = None,
    shift: bool = False,
    seed: bool = False,
    stop_ids: Collection[int] = (),
    max_len: int = 1024,
) -> Answer:
    """Decode greedily, block by block.

    Args:
        block: B.
        steps: steps that the schedule spreads a block over; B if not said.
        edit_threshold: settled tokens of the active block take a new argmax that is more probable
            than this, in every step, until nothing moves (LLaDA2.1, arXiv 2602.08676).
        max_post_steps: forwards of a block that may begin without masks.
        sub_block: only the leftmost piece of this length with masks in it is decoded in a step.
        shift: row r - 1 of a block predicts its row r.
        seed: a block that starts with nothing known gets its first token from the last row of a
            forward over all tokens before it (both Fast-dLLM v2, arXiv 2509.26328).
    """
    rule = Rule(policy, threshold, block, steps)
    known, count, slack = list(prompt), 0, float("inf")
    last = min(len(prompt) + max_tokens, max_len)

    def look(tokens: list[int], start: int) -> Tensor:
        """What the network says of the tokens from ``start`` on."""
        mask, blocks = block_causal_mask(len(tokens), block), torch.arange(len(tokens)) // block
        logits = network.logits(tokens, mask, blocks)
        return without(mask_id, logits[start:])

    while True:
        start = len(known) // block * block
        if seed and len(known) == start:
            row = look(known, start - 1)
            known.append(int(row.argmax()))
            count, slack = count + 1, min(slack, lead(row))
            if known[-1] in stop_ids or len(known) >= last:
                break
        num_known = len(known) - start
        canvas: list[int | None] = [*known[start:], *[None] * (block - num_known)]
        end = min(block, last - start)
        step, num_post, done = 0, 0, None
        while done is None:
            logits = look(known[:start] + filled(canvas, mask_id), start)
            if shift:
                logits = torch.cat((logits[:1], logits[:-1]))
            masked = [i for i, token in enumerate(canvas) if token is None]
            active = [
                i for i in masked if sub_block is None or i // sub_block == masked[0] // sub_block
            ]
            accepted, gap = choose(policy, threshold, rule.floor(step), active, logits)
            edits: list[int] = []
            if edit_threshold is not None:
                edits, edit_gap = choose_edits(canvas, num_known, edit_threshold, logits)
                gap = min(gap, edit_gap)
            for i in accepted + edits:
                canvas[i] = int(logits[i].argmax())
            step, slack = step + 1, min(slack, gap)
            if edit_threshold is None:
                done = settled(canvas, num_known, end, stop_ids)
            elif None not in canvas:
                # An accepted stop token may be edited away: the whole block decides, once stable.
                num_post += not masked
                if num_post >= max_post_steps or not (masked or edits):
                    done = settled(canvas, num_known, end, stop_ids)
        count += step
        known[start:] = filled(canvas[:done], mask_id)
        if known[-1] in stop_ids or len(known) >= last:
            break
    return Answer(known[len(prompt) :], count, slack)


def choose_edits(
    canvas: Sequence[int | None], num_known: int, threshold: float, logits: Tensor
) -> tuple[list[int], float]:
    """Return the settled positions whose argmax is another token, surer than ``threshold``.

    And the closest decision's distance. To replace a token that is the argmax, a runner-up has
    to overtake it and be sure enough: the longer of the two ways counts.
    """
    edits, gaps = [], [float("inf")]
    for i, token in enumerate(canvas):
        if i < num_known or token is None:
            continue
        top = logits[i].softmax(-1).topk(2).values.tolist()
        if token == int(logits[i].argmax()):
            gaps.append(max(lead(logits[i]), threshold - top[1]))
        elif top[0] > threshold:
            edits.append(i)
            gaps.append(min(lead(logits[i]), top[0] - threshold))
        else:
            gaps.append(threshold - top[0])
    return edits, min(gaps)
