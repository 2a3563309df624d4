"""Repetition, frequency and presence penalties, and the token statistics they rest on."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vllm_diffusion.engine.cpu.bits import set_bits
from vllm_diffusion.engine.cpu.logits import float32_rows
from vllm_diffusion.engine.cpu.ragged import segment_indices

# Vocabulary entries looked at together; bounds the memory of a large batch.
_CHUNK = 1 << 18


def apply_penalties(
    logits_ptr: Tensor,
    logits_stride: int,
    expanded_idx_mapping_ptr: Tensor,
    token_ids_ptr: Tensor,
    expanded_local_pos_ptr: Tensor,
    repetition_penalty_ptr: Tensor,
    frequency_penalty_ptr: Tensor,
    presence_penalty_ptr: Tensor,
    prompt_bin_mask_ptr: Tensor,
    prompt_bin_mask_stride: int,
    output_bin_counts_ptr: Tensor,
    output_bin_counts_stride: int,
    vocab_size: int,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``penalties._penalties_kernel``.

    Counts are those of the request's output plus its drafts before the row. Seen tokens are few, so
    they are looked up first and only their logits are touched.
    """
    req = expanded_idx_mapping_ptr.numpy()
    repetition = repetition_penalty_ptr.numpy()[req]
    frequency = frequency_penalty_ptr.numpy()[req]
    presence = presence_penalty_ptr.numpy()[req]
    is_penalised = (repetition != 1) | (frequency != 0) | (presence != 0)
    penalised = is_penalised.nonzero()[0]
    if len(penalised) == 0:
        return
    num_drafts = expanded_local_pos_ptr.numpy()
    drafts = token_ids_ptr.numpy()
    prompt_bits = prompt_bin_mask_ptr.numpy()
    output_counts = output_bin_counts_ptr.numpy()
    group = max(1, _CHUNK // vocab_size)
    with float32_rows(logits_ptr) as logits:
        for start in range(0, len(penalised), group):
            rows = penalised[start : start + group]
            req_rows = req[rows]
            counts = output_counts[req_rows]
            _add_drafts(counts, drafts, rows, num_drafts[rows])
            in_output = np.packbits(counts > 0, axis=1, bitorder="little")
            in_prompt = prompt_bits[req_rows].view(np.uint8)[:, : in_output.shape[1]]
            seen, tokens = set_bits(in_prompt | in_output)
            _penalise(logits, rows, seen, tokens, counts, repetition, frequency, presence)


def _add_drafts(
    counts: np.ndarray, drafts: np.ndarray, rows: np.ndarray, num_drafts: np.ndarray
) -> None:
    """Count the drafts before each row: ``drafts[row - num_drafts + 1 : row + 1]``."""
    total = int(num_drafts.sum())
    if total == 0:
        return
    offsets = num_drafts.cumsum() - num_drafts
    tokens = drafts[segment_indices(rows - num_drafts + 1, num_drafts, offsets, total)]
    owners = np.arange(len(rows)).repeat(num_drafts)
    is_token = (tokens >= 0) & (tokens < counts.shape[1])
    np.add.at(counts, (owners[is_token], tokens[is_token]), 1)


def _penalise(
    logits: np.ndarray,
    rows: np.ndarray,
    seen: np.ndarray,
    tokens: np.ndarray,
    counts: np.ndarray,
    repetition: np.ndarray,
    frequency: np.ndarray,
    presence: np.ndarray,
) -> None:
    """Penalise ``logits[rows[seen], tokens]``; tokens of the prompt alone have a count of 0."""
    row = rows[seen]
    count = counts[seen, tokens]
    scale = repetition[row]
    values = logits[row, tokens]
    values *= np.where(values > 0, np.float32(1) / scale, scale)
    values -= frequency[row] * count.astype(np.float32)
    values -= presence[row] * (count > 0)
    logits[row, tokens] = values


def bincount(
    expanded_idx_mapping_ptr: Tensor,
    all_token_ids_ptr: Tensor,
    all_token_ids_stride: int,
    prompt_len_ptr: Tensor,
    prefill_len_ptr: Tensor,
    prompt_bin_mask_ptr: Tensor,
    prompt_bin_mask_stride: int,
    output_bin_counts_ptr: Tensor,
    output_bin_counts_stride: int,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``penalties._bincount_kernel``: which tokens the prompt holds, and how often each
    occurs in the output so far. Loops over requests: each comes here once, when it is admitted."""
    req = expanded_idx_mapping_ptr.numpy()
    all_token_ids = all_token_ids_ptr.numpy()
    prompt_bits = prompt_bin_mask_ptr.numpy()
    output_counts = output_bin_counts_ptr.numpy()
    vocab_size = output_counts.shape[1]
    prompt_lens = prompt_len_ptr.numpy()[req].tolist()
    prefill_lens = prefill_len_ptr.numpy()[req].tolist()
    for row, prompt_len, prefill_len in zip(req.tolist(), prompt_lens, prefill_lens, strict=True):
        tokens = all_token_ids[row, :prefill_len]
        in_prompt = np.zeros(prompt_bits.shape[1] * 32, np.bool_)
        in_prompt[tokens[:prompt_len]] = True
        prompt_bits[row] |= np.packbits(in_prompt, bitorder="little").view(np.int32)
        if prefill_len > prompt_len:
            output_counts[row] += np.bincount(tokens[prompt_len:], minlength=vocab_size)
