"""Structured outputs: tokens the grammar forbids get a logit of -inf."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vllm_diffusion.engine.cpu.logits import float32_rows

# Upper bounds of the logits of eight tokens, by the byte of the bitmask they share.
_BOUNDS = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") == 1,
    np.float32(np.inf),
    np.float32(-np.inf),
)


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
    # +inf where allowed, -inf where not: a minimum is a tenth of the cost of a masked fill.
    bounds = _BOUNDS.take(bitmask.view(np.uint8), axis=0).reshape(num_applied, -1)[:, :vocab_size]
    with float32_rows(logits_ptr) as logits:
        first, last = int(row[0]), int(row[-1])
        if last - first == num_applied - 1 and np.count_nonzero(row[1:] > row[:-1]) == last - first:
            block = logits[first : last + 1]
            np.minimum(block, bounds, out=block)
        else:
            logits[row] = np.minimum(logits[row], bounds)
