"""Prompts too long to compute anew in every step: a network that keeps K and V of what is final.

Beside ``block_causal`` and ``causal_context``, and not in their place: a mask over all of a 32K
sequence is a GiB. What is kept here are plain tensors, one for each layer, in the order of the
tokens; ``tests/unit/test_reference_long.py`` compares both ways on short prompts.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention as attend

from tests.parity.references import network_rope as rope
from tests.parity.references.choose import Answer, Rule, choose, filled, lead, settled, without
from tests.parity.references.network import Network

CHUNK = 512
"""Tokens of a prompt that are computed at once: a multiple of every block length."""


class KeptNetwork(Network):
    """``rows`` are those of the tokens that follow what is kept."""

    def __init__(self, folder):
        super().__init__(folder)
        self.kept, self.num_kept = {}, 0

    def rows(self, tokens, among, *, keep):
        """Logits (T, V) of tokens that see all that is kept, and each other as ``among`` (T, T)."""
        self.seen = {}
        logits = self.logits(list(tokens), among)
        if keep:
            self.kept, self.num_kept = self.seen, self.num_kept + len(tokens)
        return logits

    def attention(self, x, p, mask, rotary):
        end = self.num_kept + len(x)
        rotary = [y[self.num_kept :] for y in rope.rotation(self.s, self.head, end)]
        scale = rope.query_scale(self.s, end)
        q, k, v = (
            self.linear(x, p + name).view(len(x), -1, self.head)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        if self.family.qk_norm:
            q, k = self.norm(q, p + "q_norm"), self.norm(k, p + "k_norm")
        q, k = rope.rotate(q, *rotary), rope.rotate(k, *rotary)
        q = q * (scale[self.num_kept :] if torch.is_tensor(scale) else scale)
        if self.num_kept:
            k, v = (torch.cat(pair) for pair in zip(self.kept[p], (k, v), strict=True))
        self.seen[p] = k, v
        seen = torch.cat((mask.new_ones(len(x), self.num_kept), mask), 1)
        q, k, v = (y.transpose(0, 1)[None] for y in (q, k, v))
        (out,) = attend(q, k, v, attn_mask=seen, enable_gqa=q.shape[1] > k.shape[1])
        return self.linear(out.transpose(0, 1).flatten(1), p + "o_proj")


def all_of(length):
    return torch.ones(length, length, dtype=torch.bool)


def keep(network, tokens, block):
    """Keep tokens that follow what is kept; ``block`` 1 is causal. Their last row."""
    row = None
    for start in range(0, len(tokens), CHUNK):
        piece = tokens[start : start + CHUNK]
        number = torch.arange(len(piece)) // block
        row = network.rows(piece, number[None, :] <= number[:, None], keep=True)[-1:]
    return row


def denoise(network, canvas, num_known, end, rule, *, mask_id, stop_ids):
    """Decode one canvas in place; how much of it is final, its steps, the closest decision."""
    step, slack = 0, float("inf")
    while True:
        tokens = filled(canvas, mask_id)
        logits = without(mask_id, network.rows(tokens, all_of(len(canvas)), keep=False))
        masked = [i for i, token in enumerate(canvas) if token is None]
        accepted, gap = choose(rule.policy, rule.threshold, rule.floor(step), masked, logits)
        for i in accepted:
            canvas[i] = int(logits[i].argmax())
        step, slack = step + 1, min(slack, gap)
        if (done := settled(canvas, num_known, end, stop_ids)) is not None:
            return done, step, slack


@torch.inference_mode()
def block_causal(network, prompt, max_tokens, *, mask_id, block, threshold, stop_ids, max_len):
    """As ``block_causal.generate`` by confidence; the prompt goes on after what is kept."""
    rule, known, begin = Rule("confidence", threshold, block), list(prompt), network.num_kept
    count, slack, last = 0, float("inf"), min(len(prompt) + max_tokens, max_len - begin)
    while True:
        start = len(known) // block * block
        keep(network, known[network.num_kept - begin : start], block)
        canvas = [*known[start:], *[None] * (start + block - len(known))]
        num_known, end = len(known) - start, min(block, last - start)
        done, steps, gap = denoise(
            network, canvas, num_known, end, rule, mask_id=mask_id, stop_ids=stop_ids
        )
        count, slack = count + steps, min(slack, gap)
        known[start:] = filled(canvas[:done], mask_id)
        if known[-1] in stop_ids or len(known) >= last:
            return Answer(known[len(prompt) :], count, slack)


@torch.inference_mode()
def causal_context(network, prompt, max_tokens, *, mask_id, block, threshold, stop_ids, max_len):
    """As ``causal_context.generate`` by confidence; the prompt goes on after what is kept."""
    rule, known, begin = Rule("confidence", threshold, block), list(prompt), network.num_kept
    count, slack, last = 0, float("inf"), min(len(prompt) + max_tokens, max_len - begin)
    while True:
        start = len(known)
        row = without(mask_id, keep(network, known[network.num_kept - begin :], 1))
        canvas = [int(row.argmax()), *[None] * (min(block, max_len - begin - start) - 1)]
        done, steps, gap = denoise(
            network, canvas, 0, min(len(canvas), last - start), rule,
            mask_id=mask_id, stop_ids=stop_ids,
        )  # fmt: skip
        count, slack = count + 1 + steps, min(slack, lead(row), gap)
        known += filled(canvas[:done], mask_id)
        if known[-1] in stop_ids or len(known) >= last:
            return Answer(known[len(prompt) :], count, slack)
