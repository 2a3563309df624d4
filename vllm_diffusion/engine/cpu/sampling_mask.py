"""What the truncated distribution left: the tokens a row could have sampled, and NaN counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vllm_diffusion.engine.cpu.bits import set_bits
from vllm_diffusion.engine.cpu.ragged import steps


def compact_sampling_mask(
    logits_ptr: Tensor,
    logits_row_stride: int,
    logits_col_stride: int,
    cu_num_logits_ptr: Tensor,
    num_sampled_tokens_ptr: Tensor,
    token_ids_ptr: Tensor,
    token_ids_row_stride: int,
    packed_mask_ptr: Tensor,
    packed_mask_row_stride: int,
    counts_ptr: Tensor,
    vocab_size: int,
    max_num_kept: int,
    ROWS_PER_REQUEST: int,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``output._compact_sampling_mask_kernel``: per output row the first `max_num_kept`
    tokens with a finite logit, how many there are in all, and all of them as a bitmask. Rows of
    tokens that were not sampled get a count of 0 and nothing else."""
    counts = counts_ptr.numpy()
    req, slot = np.divmod(np.arange(len(counts)), ROWS_PER_REQUEST)
    is_sampled = slot < num_sampled_tokens_ptr.numpy()[req]
    counts[:] = 0
    rows = is_sampled.nonzero()[0]
    if len(rows) == 0:
        return
    sources = cu_num_logits_ptr.numpy()[req[rows]] + slot[rows]
    is_kept = np.isfinite(logits_ptr.float().numpy()[sources])
    packed = np.packbits(is_kept, axis=1, bitorder="little")
    packed_mask_ptr.numpy()[rows] = packed
    row, token = set_bits(packed)
    num_kept = np.bincount(row, minlength=len(rows))
    counts[rows] = num_kept
    place = steps(len(row)) - (num_kept.cumsum() - num_kept).repeat(num_kept)
    fits = place < max_num_kept
    token_ids_ptr.numpy()[rows[row[fits]], place[fits]] = token[fits]


def num_nans(
    logits_ptr: Tensor,
    logits_stride: int,
    num_nans_ptr: Tensor,
    vocab_size: int,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``metrics.logits._num_nans_kernel``: NaN logits per row."""
    np.add.reduce(np.isnan(logits_ptr.float().numpy()), axis=1, out=num_nans_ptr.numpy())
