"""Thinking budget: once it is spent, the end-of-reasoning sequence is forced."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vllm_diffusion.engine.cpu.logits import assign
from vllm_diffusion.engine.cpu.markers import TokenAt, last_match, newest_markers, text_lookup
from vllm_diffusion.engine.cpu.ragged import steps

_FORCED_LOGIT = 1.0e9


def update_committed_marker_cache(
    req_ids_ptr: Tensor,
    thinking_token_budget_ptr: Tensor,
    all_token_ids_ptr: Tensor,
    all_token_ids_stride: int,
    total_len_ptr: Tensor,
    cached_last_start_ptr: Tensor,
    cached_last_end_ptr: Tensor,
    cached_scan_pos_ptr: Tensor,
    reasoning_start_token_ids_ptr: Tensor,
    natural_reasoning_end_token_ids_ptr: Tensor,
    START_LEN: int,
    NATURAL_END_LEN: int,
    MAX_LEN: int,
    BLOCK: int,
    **_: Any,
) -> None:
    """Replace ``thinking_budget._update_committed_marker_cache_kernel``: where reasoning last began
    and last ended among the committed tokens, looking only at what is new since the last step."""
    req = req_ids_ptr.numpy()
    req = req[thinking_token_budget_ptr.numpy()[req] >= 0]
    if len(req) == 0:
        return
    total_len = total_len_ptr.numpy()[req]
    scan_pos = cached_scan_pos_ptr.numpy()[req]
    is_stale = scan_pos > total_len
    scan_pos[is_stale] = 0
    last_start = np.where(is_stale, -1, cached_last_start_ptr.numpy()[req])
    last_end = np.where(is_stale, -1, cached_last_end_ptr.numpy()[req])
    start_ids = reasoning_start_token_ids_ptr.numpy()
    end_ids = natural_reasoning_end_token_ids_ptr.numpy()
    tokens = all_token_ids_ptr.numpy()

    is_cold = (scan_pos == 0) & (last_start < 0) & (last_end < 0)
    for i in is_cold.nonzero()[0].tolist():  # once per request, over its whole prompt
        known = tokens[req[i], : total_len[i]]
        last_start[i], last_end[i] = newest_markers(known, start_ids, end_ids, BLOCK)
    warm = (~is_cold).nonzero()[0]
    if len(warm):
        rows, last_place = req[warm, None], total_len[warm, None] - 1

        def token_at(places: np.ndarray) -> np.ndarray:
            found: np.ndarray = tokens[rows, np.minimum(places, last_place)]
            return found

        for ids, last in ((start_ids, last_start), (end_ids, last_end)):
            last[warm] = last_match(token_at, ids, scan_pos[warm], total_len[warm], last[warm])
    cached_last_start_ptr.numpy()[req] = last_start
    cached_last_end_ptr.numpy()[req] = last_end
    cached_scan_pos_ptr.numpy()[req] = np.maximum(total_len - (MAX_LEN - 1), 0)


def apply_thinking_budget(
    logits_ptr: Tensor,
    logits_stride: int,
    expanded_idx_mapping_ptr: Tensor,
    thinking_token_budget_ptr: Tensor,
    all_token_ids_ptr: Tensor,
    all_token_ids_stride: int,
    total_len_ptr: Tensor,
    input_ids_ptr: Tensor,
    expanded_local_pos_ptr: Tensor,
    cached_last_start_ptr: Tensor,
    cached_last_end_ptr: Tensor,
    reasoning_start_token_ids_ptr: Tensor,
    natural_reasoning_end_token_ids_ptr: Tensor,
    reasoning_end_token_ids_ptr: Tensor,
    START_LEN: int,
    NATURAL_END_LEN: int,
    END_LEN: int,
    **_: Any,
) -> None:
    """Replace ``thinking_budget._thinking_budget_kernel``.

    A row's text is what is committed plus its drafts, found in `input_ids_ptr`. While it is inside
    reasoning and over budget, the next token of the end sequence gets a logit nothing else reaches.
    """
    budget = thinking_token_budget_ptr.numpy()[expanded_idx_mapping_ptr.numpy()]
    rows = (budget >= 0).nonzero()[0]
    if len(rows) == 0:
        return
    req = expanded_idx_mapping_ptr.numpy()[rows]
    num_drafts = expanded_local_pos_ptr.numpy()[rows]
    total_len = total_len_ptr.numpy()[req]
    text_len = total_len + num_drafts
    token_at = text_lookup(
        all_token_ids_ptr.numpy(), input_ids_ptr.numpy(), req, rows, num_drafts, total_len
    )
    # The cache knows the markers inside the committed tokens; look for those that end in drafts.
    start_ids = reasoning_start_token_ids_ptr.numpy()
    end_ids = natural_reasoning_end_token_ids_ptr.numpy()
    first = np.maximum(total_len - START_LEN + 1, 0)
    known = cached_last_start_ptr.numpy()[req]
    last_start = last_match(token_at, start_ids, first, text_len, known)
    first = np.maximum(total_len - NATURAL_END_LEN + 1, 0)
    known = cached_last_end_ptr.numpy()[req]
    last_end = last_match(token_at, end_ids, first, text_len, known)

    is_thinking = (last_start >= 0) & (last_start > last_end)
    is_over = is_thinking & (text_len - last_start - START_LEN >= budget[rows])
    if np.count_nonzero(is_over) == 0:
        return
    forced = reasoning_end_token_ids_ptr.numpy()
    num_forced = _forced_prefix_len(token_at, forced, text_len)
    assign(logits_ptr, rows[is_over], forced[num_forced[is_over]], _FORCED_LOGIT)


def _forced_prefix_len(token_at: TokenAt, forced: np.ndarray, text_len: np.ndarray) -> np.ndarray:
    """Return per row how much of the end sequence the text already ends with."""
    num_forced = np.zeros(len(text_len), np.int64)
    for length in range(1, len(forced)):
        tail = token_at((text_len - length)[:, None] + steps(length))
        is_prefix = (tail == forced[:length]).all(axis=1) & (text_len >= length)
        num_forced[is_prefix] = length
    return num_forced
