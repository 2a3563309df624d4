"""Log-probabilities of accepted tokens, from the step that accepted them.

A token's is that of the distribution in which it became the canvas's: at the step of its
acceptance, or of its last edit. So it says how sure the model was given what the canvas held then,
and the sum over a text is no likelihood in the sense of a left-to-right model.

Shape suffixes: N rows of logits, V vocabulary, K alternatives, Q requests that ask, L canvas
length, A = 1 + K columns: the token itself, then the alternatives.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Scores(NamedTuple):
    """Of one row or position each; leading dimensions as the caller's."""

    ids_A: Tensor
    """int64. The token, then the alternatives."""
    scores_A: Tensor
    """float32. Their log-probabilities, or logits; -inf where there is no alternative."""
    rank: Tensor
    """int64. How many tokens are at least as probable as the token, itself included."""


def scores_of(
    logits_NV: Tensor,
    token_N: Tensor,
    num_top: int,
    ids_NK: Tensor | None = None,
    num_ids_N: Tensor | None = None,
    *,
    gives_logits: bool = False,
) -> Scores:
    """Score each row's token and alternatives.

    Args:
        logits_NV: float32 (N, V), the mask token's at -inf, so that it has no probability.
        token_N: int64 (N,).
        num_top: how many of the most probable tokens are alternatives.
        ids_NK: int64 (N, K'), the alternatives of rows that name them, if any row does.
        num_ids_N: int64 (N,), how many of ``ids_NK`` count; 0 where the row names none.
        gives_logits: score by logits in the place of log-probabilities.
    """
    top_NK = logits_NV.topk(num_top, dim=-1).indices
    is_given_NK = torch.ones_like(top_NK, dtype=torch.bool)
    if ids_NK is not None and num_ids_N is not None:
        num = max(num_top, ids_NK.shape[1])
        names_N1 = (num_ids_N > 0)[:, None]
        top_NK, ids_NK = _widened(top_NK, num), _widened(ids_NK, num)
        top_NK = torch.where(names_N1, ids_NK, top_NK)
        num_given_N1 = torch.where(names_N1, num_ids_N[:, None], num_top)
        is_given_NK = torch.arange(num, device=logits_NV.device) < num_given_N1
    token_N1 = token_N[:, None]
    ids_NA = torch.cat((token_N1, top_NK), dim=1)
    scores_NA = logits_NV.gather(1, ids_NA)
    chosen_N1 = scores_NA[:, :1]
    rank_N = (logits_NV >= chosen_N1).sum(dim=-1)
    if not gives_logits:
        scores_NA = scores_NA - logits_NV.logsumexp(dim=-1, keepdim=True)
    scores_NA[:, 1:].masked_fill_(~is_given_NK, -torch.inf)
    return Scores(ids_NA, scores_NA, rank_N)


def _widened(ids_NK: Tensor, num: int) -> Tensor:
    """With zeros up to ``num`` columns."""
    return torch.nn.functional.pad(ids_NK, (0, num - ids_NK.shape[1]))


def changed_positions(
    tokens_QL: Tensor, scored_QL: Tensor, new_QL: Tensor, settled_QL: Tensor
) -> Tensor:
    """bool (Q, L): positions whose token is new and has no score yet.

    Not those that were masked before the step: a canvas may also begin with tokens that nothing
    has scored.

    Args:
        tokens_QL: int64, the canvases before the step.
        scored_QL: bool, their positions that have a score.
        new_QL: int64, the canvases after it.
        settled_QL: bool, their settled positions.
    """
    return settled_QL & (~scored_QL | (new_QL != tokens_QL))
