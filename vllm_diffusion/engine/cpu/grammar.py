"""Structured outputs: tokens the grammar forbids get a logit of -inf."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def apply_grammar_bitmask(
    logits_ptr: Tensor,
    logits_stride: int,
    logits_indices_ptr: Tensor,
    cu_num_logits_ptr: Tensor,
    bitmask_ptr: Tensor,
    bitmask_stride: int,
    vocab_size: int,
    MASK_STRIDE: int,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``structured_outputs._apply_grammar_bitmask_kernel``.

    ``logits_indices[i]`` is ``request * MASK_STRIDE + position`` of bitmask row i. A row whose
    position lies past the request's logits is ignored, and so is one that allows everything.
    """
    num_masks = logits_indices_ptr.shape[0]
    cu_logits = cu_num_logits_ptr.numpy()
    req, position = np.divmod(logits_indices_ptr.numpy(), MASK_STRIDE)
    row = cu_logits[req] + position
    bitmask = bitmask_ptr.numpy()[:num_masks]
    applies = row < cu_logits[req + 1]
    applies &= (bitmask != -1).any(axis=1)
    num_applied = np.count_nonzero(applies)
    if num_applied == 0:
        return
    if num_applied != num_masks:
        row, bitmask = row[applies], bitmask[applies]
    forbidden = np.invert(bitmask).view(np.uint8)
    bits = np.unpackbits(forbidden, axis=1, count=vocab_size, bitorder="little")
    is_forbidden = torch.from_numpy(bits.view(np.bool_))
    first = int(row[0])
    if int(row[-1]) - first == num_applied - 1 and np.array_equal(
        row, np.arange(first, first + num_applied)
    ):
        logits_ptr[first : first + num_applied, :vocab_size].masked_fill_(is_forbidden, -torch.inf)
        return
    rows = torch.from_numpy(row.astype(np.int64))
    logits_ptr[rows] = logits_ptr[rows].masked_fill_(is_forbidden, -torch.inf)
