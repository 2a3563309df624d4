"""Which experts a token is sent to, and with what weights.

Every router takes logits (T, E), the selection bias (E) or None, the settings and the
tokens' blocks (T), and returns experts (T, k) and weights (T, k).
"""

import torch


def softmax(logits, bias, s, blocks):
    """The k most probable experts; their probabilities, made to sum to 1 only if asked for."""
    weights, experts = logits.softmax(-1).topk(s["num_experts_per_tok"])
    if s["norm_topk_prob"]:
        weights = weights / weights.sum(-1, keepdim=True)
    return experts, weights


def sigmoid(logits, bias, s, blocks):
    """LLaDA2: each expert scored alone; the bias decides who is chosen, not with what weight.

    A token chooses among the best groups of experts. In 2.2 it chooses among the experts
    that its block admits: the ``expert_capacity`` with the best score of any of its tokens.
    """
    scores = logits.sigmoid()
    biased = scores + bias
    if "expert_capacity" in s:
        allowed = _admitted_by_block(biased, s["expert_capacity"], blocks)
    else:
        allowed = _in_best_groups(biased, s["n_group"], s["topk_group"])
    experts = biased.masked_fill(~allowed, -torch.inf).topk(s["num_experts_per_tok"]).indices
    weights = scores.gather(-1, experts)
    weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return experts, weights * s["routed_scaling_factor"]


def _in_best_groups(biased, groups, kept):
    """(T, E): whether the expert's group is among those with the best sum of two experts."""
    grouped = biased.view(len(biased), groups, -1)
    best = grouped.topk(2).values.sum(-1).topk(kept).indices
    allowed = torch.zeros(len(biased), groups, dtype=torch.bool).scatter(1, best, True)
    return allowed.repeat_interleave(grouped.shape[-1], 1)


def _admitted_by_block(biased, capacity, blocks):
    """(T, E): whether the token's block admits the expert."""
    allowed = torch.zeros_like(biased, dtype=torch.bool)
    for block in blocks.unique():
        rows = blocks == block
        admitted = biased[rows].amax(0).topk(capacity).indices
        allowed[rows.nonzero(), admitted] = True
    return allowed
