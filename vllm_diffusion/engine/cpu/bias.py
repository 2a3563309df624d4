"""Allowed token ids, logit bias and minimum length."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vllm_diffusion.engine.cpu.logits import float32_rows
from vllm_diffusion.engine.cpu.ragged import steps


def apply_bias(
    logits_ptr: Tensor,
    logits_stride: int,
    vocab_size: int,
    expanded_idx_mapping_ptr: Tensor,
    num_allowed_token_ids_ptr: Tensor,
    allowed_token_ids_ptr: Tensor,
    allowed_token_ids_stride: int,
    num_logit_bias_ptr: Tensor,
    bias_token_ids_ptr: Tensor,
    bias_token_ids_stride: int,
    bias_ptr: Tensor,
    bias_stride: int,
    pos_ptr: Tensor,
    min_lens_ptr: Tensor,
    num_stop_token_ids_ptr: Tensor,
    restore_when_all_masked_ptr: Tensor,
    stop_token_ids_ptr: Tensor,
    stop_token_ids_stride: int,
    BLOCK_SIZE: int,
    LOGITS_BLOCK_SIZE: int,
    CHECK_ALL_MASKED_ROWS: bool,
    **_: Any,
) -> None:
    """Replace ``logit_bias._bias_kernel``.

    Per row, in this order: everything but the allowed ids becomes -inf; the bias is added; stop ids
    become -inf while ``pos + 1 < min_len``. If that leaves a grammar-constrained row without any
    token, its finite stop logits come back.
    """
    req = expanded_idx_mapping_ptr.numpy()
    num_allowed = num_allowed_token_ids_ptr.numpy()[req]
    num_bias = num_logit_bias_ptr.numpy()[req]
    is_short = pos_ptr.numpy()[: len(req)] + 1 < min_lens_ptr.numpy()[req]
    num_stops = num_stop_token_ids_ptr.numpy()[req] * is_short
    with float32_rows(logits_ptr) as logits:
        rows = num_allowed.nonzero()[0]
        if len(rows):
            tokens = allowed_token_ids_ptr.numpy()[_entries(req, num_allowed, rows)]
            kept = logits[rows[:, None], tokens]
            logits[rows] = -np.inf
            logits[rows[:, None], tokens] = kept

        rows = num_bias.nonzero()[0]
        if len(rows):
            entries = _entries(req, num_bias, rows)
            tokens = bias_token_ids_ptr.numpy()[entries]
            # Read, add, write: a repeated entry is added once, like a lane of the kernel.
            biased = logits[rows[:, None], tokens] + bias_ptr.numpy()[entries]
            logits[rows[:, None], tokens] = biased

        rows = num_stops.nonzero()[0]
        if len(rows):
            tokens = stop_token_ids_ptr.numpy()[_entries(req, num_stops, rows)]
            stop_logits = logits[rows[:, None], tokens]
            logits[rows[:, None], tokens] = -np.inf
            if CHECK_ALL_MASKED_ROWS:
                restores = restore_when_all_masked_ptr.numpy()[req[rows]] != 0
                restores &= logits[rows].max(axis=1) == -np.inf
                stop_logits[~np.isfinite(stop_logits)] = -np.inf
                logits[rows[restores, None], tokens[restores]] = stop_logits[restores]


def _entries(
    req: np.ndarray, counts: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Index the first ``counts[row]`` entries of each row's request, as ``[num_rows, longest]``.

    Shorter lists repeat their first entry, so that a rectangular scatter writes what it wrote.
    """
    counts = counts[rows, None]
    columns = steps(int(counts.max()))
    return req[rows, None], columns * (columns < counts)
