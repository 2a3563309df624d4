"""Full attention over prompt and output: LLaDA, LLaDA-MoE, Dream, RND1, CoDA.

The sequence is the prompt and G masks from the start, everything sees everything, and blocks of B
positions are decoded from the prompt's end, left to right; the last may be shorter.
"""

from collections.abc import Collection, Sequence
from typing import Literal

import torch
from torch import Tensor

from tests.parity.references.choose import (
    Answer,
    Network,
    Rule,
    choose,
    filled,
    settled,
    without,
)
from tests.parity.references.dream import POLICIES, Schedule, Uniform
from tests.parity.references.stale import PositionedNetwork, stale_logits


@torch.inference_mode()
def generate(
    network: Network | PositionedNetwork,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    mask_id: int,
    block: int,
    policy: str = "static",
    threshold: float = 0.0,
    steps: int | None = None,
    shift: bool = False,
    guidance: float = 0.0,
    kv_cache: Literal["prefix", "dual"] | None = None,
    uniform: Uniform | None = None,
    stop_ids: Collection[int] = (),
    max_len: int = 1024,
) -> Answer:
    """Decode greedily, block by block.

    Args:
        block: B.
        policy: one of Dream's, or of ``choose``'s; "static" is LLaDA's low_confidence remasking.
        steps: of a block. If not said: B, or with Dream's policies the block's own length.
        shift: row r - 1 of the sequence predicts its row r (Dream).
        guidance: w in l = l_u + (w + 1)(l_c - l_u), l_u from the sequence with the prompt masked
            (LLaDA); 0 is without. A step is one step, although it reads two sequences.
        kv_cache: K and V before the block, or also those behind it, stay as the block's first
            forward made them (Fast-dLLM v1). Needs a network that takes positions.
        uniform: the draws of "origin".
    """
    rule = Rule(policy, threshold, block, steps)
    length = min(max_tokens, max_len - len(prompt))
    output: list[int | None] = [None] * length
    branches = [list(prompt)] + ([[mask_id] * len(prompt)] if guidance else [])
    count, slack = 0, float("inf")

    def look(prompt: list[int], first: list[int], rows: list[int], end: int) -> Tensor:
        """Logits of ``rows``, where the block's forwards began with ``first`` as the output."""
        tokens = prompt + filled(output, mask_id)
        if kv_cache is None:
            return network.logits(tokens, torch.ones(len(tokens), len(tokens)).bool())[rows]
        fresh = range(rows[0], len(prompt) + end if kv_cache == "dual" else len(tokens))
        logits = stale_logits(network, prompt + first, tokens, fresh)
        return logits[[row - fresh.start for row in rows]]

    for start in range(0, length, block):
        end = min(start + block, length)
        rows = [max(len(prompt) + i - shift, 0) for i in range(start, end)]
        first = filled(output, mask_id)
        dream = Schedule(policy, steps or end - start, len(prompt) + start, uniform)
        step, done = 0, None
        while done is None:
            conditional, *others = [look(branch, first, rows, end) for branch in branches]
            for unconditional in others:
                conditional = unconditional + (guidance + 1) * (conditional - unconditional)
            logits = without(mask_id, conditional)
            masked = [i for i in range(end - start) if output[start + i] is None]
            if policy in POLICIES:
                accepted, gap = dream.choose(masked, logits)
            else:
                accepted, gap = choose(policy, threshold, rule.floor(step), masked, logits)
            for i in accepted:
                output[start + i] = int(logits[i].argmax())
            step, slack = step + 1, min(slack, gap)
            done = settled(output[start:end], 0, end - start, stop_ids)
        count += step
        if output[start + done - 1] in stop_ids:
            return Answer(filled(output[: start + done], mask_id), count, slack)
    return Answer(filled(output, mask_id), count, slack)
