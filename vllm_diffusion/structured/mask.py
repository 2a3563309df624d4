"""Rows of logits without the tokens that a grammar does not allow there."""

from __future__ import annotations

import torch
from torch import Tensor


def mask_rows(logits_NV: Tensor, row_K: Tensor, bits_KW: Tensor) -> None:
    """Forbid, in place, what the bits of a row do not allow.

    Args:
        logits_NV: (N, V) of the step.
        row_K: int64 (K,), the rows that a grammar has an exact set for.
        bits_KW: int32 (K, W), 32 tokens a word, the first in the lowest bit.
    """
    shift = torch.arange(32, device=bits_KW.device)
    allowed_KV = ((bits_KW[:, :, None] >> shift) & 1).flatten(1)[:, : logits_NV.shape[1]].bool()
    logits_NV[row_K] = logits_NV[row_K].masked_fill(~allowed_KV, -torch.inf)
