"""Where in its draft a text goes on: a draft that follows the text that is decoded.

    score(c) = sum of C + 1 - k over k in 1..C with text[-k] = draft[c - k],
               c within R of the expected place

A block's draft begins at the place with the highest score, the nearest one of equals. What the text
has more or less than the draft moves the rest of it; its last tokens count most, since those before
may stand in front of what was put in. Shape suffixes: B requests, C tokens of
context, O places that are looked at, K tokens of the longest draft.
"""

from __future__ import annotations

import torch
from torch import Tensor

CONTEXT = 8
REACH = 128
"""A longer piece that is left out is not found again; the model then writes the rest anew."""
NOTHING = -2
"""In front of the text; no entry of a seed is equal to it."""


def window_at(expected_B: Tensor) -> Tensor:
    """int64 (B, W): the places of a draft that ``next_place`` looks at."""
    return expected_B[:, None] + torch.arange(-REACH - CONTEXT, REACH, device=expected_B.device)


def next_place(window_BW: Tensor, tail_BC: Tensor, expected_B: Tensor) -> Tensor:
    """int64 (B,): where in the drafts the texts go on.

    Args:
        window_BW: int64, the drafts at ``window_at(expected_B)``, negative outside of them.
        tail_BC: int64, the last tokens of each text, ``NOTHING`` in front of its first.
        expected_B: int64, the places if nothing had been put in or left out since the last ones.
    """
    before_BOC = window_BW.unfold(1, CONTEXT, 1)
    offset_O = torch.arange(-REACH, REACH + 1, device=window_BW.device)
    place_BO = expected_B[:, None] + offset_O
    # A place is behind a token of the draft, or at its start.
    exists_BO = (before_BOC[:, :, -1] >= 0) | (place_BO == 0)
    weight_C = torch.arange(1, CONTEXT + 1, device=window_BW.device)
    score_BO = ((before_BOC == tail_BC[:, None]) * weight_C).sum(dim=2).where(exists_BO, -1)
    # Of equals the nearest, of two as near the one in front.
    nearness_O = 2 * (REACH - offset_O.abs()) + (offset_O < 0)
    best_B = (score_BO * (2 * REACH + 2) + nearness_O).argmax(dim=1)
    return place_BO.gather(1, best_B[:, None])[:, 0]


def next_tail(tail_BC: Tensor, tokens_BL: Tensor, num_B: Tensor) -> Tensor:
    """int64 (B, C): the ends of texts to which the first ``num_B`` of ``tokens_BL`` were added."""
    text_BT = torch.cat((tail_BC, tokens_BL), dim=1)
    index_BC = num_B[:, None] + torch.arange(CONTEXT, device=tail_BC.device)
    return text_BT.gather(1, index_BC)
