"""Which blocks are finished, and how many of their tokens are emitted.

A block's end is the first of: the canvas's width, the tokens that the request
may still emit, an accepted stop token (inclusive). What lies behind the end is
never shown, so it need not be denoised.

Shape suffixes: B requests in the step, L canvas length, E stop ids a request.
"""

from __future__ import annotations

import torch
from torch import Tensor


def first_true(is_true_BL: Tensor) -> Tensor:
    """int64 (B,): the first true position, L where there is none."""
    length = is_true_BL.shape[1]
    position_L = torch.arange(length, device=is_true_BL.device)
    return torch.where(is_true_BL, position_L, length).amin(dim=-1)


def first_stop(tokens_BL: Tensor, settled_BL: Tensor, stop_ids_BE: Tensor) -> Tensor:
    """int64 (B,): the first settled position that holds a stop id, L where there is none."""
    is_stop_BL = (tokens_BL[:, :, None] == stop_ids_BE[:, None, :]).any(dim=-1)
    return first_true(is_stop_BL & settled_BL)


def num_settled(tokens_BL: Tensor, masked_BL: Tensor, end_B: Tensor, stop_ids_BE: Tensor) -> Tensor:
    """Tokens (B,) to emit now where accepted tokens never change: 0 for an unfinished block.

    A block is finished when no masked position is left before its end.

    Args:
        tokens_BL: int64 (B, L).
        masked_BL: bool (B, L).
        end_B: int64 (B,), the block's end as far as it does not depend on tokens.
        stop_ids_BE: int64 (B, E), padded with -1.
    """
    length = tokens_BL.shape[1]
    in_reach_BL = torch.arange(length, device=tokens_BL.device) < end_B[:, None]
    first_open_B = first_true(masked_BL & in_reach_BL)
    first_stop_B = first_stop(tokens_BL, ~masked_BL & in_reach_BL, stop_ids_BE)
    is_done_B = (first_open_B == length) | (first_stop_B < first_open_B)
    return torch.where(is_done_B, torch.minimum(end_B, first_stop_B + 1), 0)
