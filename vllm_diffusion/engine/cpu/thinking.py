"""Thinking budget: once it is spent, the end-of-reasoning sequence is forced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from vllm_diffusion.engine.cpu.logits import assign
from vllm_diffusion.engine.cpu.ragged import steps

_FORCED_LOGIT = 1.0e9

# Looks tokens up: places [num_rows, n] in each row's text -> token ids.
TokenAt = Callable[[np.ndarray], np.ndarray]


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
        last_start[i], last_end[i] = _scan_backward(known, start_ids, end_ids, BLOCK)
    warm = (~is_cold).nonzero()[0]
    if len(warm):
        rows, last_place = req[warm, None], total_len[warm, None] - 1

        def token_at(places: np.ndarray) -> np.ndarray:
            return tokens[rows, np.minimum(places, last_place)]

        for ids, last in ((start_ids, last_start), (end_ids, last_end)):
            last[warm] = _last_match(token_at, ids, scan_pos[warm], total_len[warm], last[warm])
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
    token_at = _text(
        all_token_ids_ptr.numpy(), input_ids_ptr.numpy(), req, rows, num_drafts, total_len
    )
    # The cache knows the markers inside the committed tokens; look for those that end in drafts.
    start_ids = reasoning_start_token_ids_ptr.numpy()
    end_ids = natural_reasoning_end_token_ids_ptr.numpy()
    first = np.maximum(total_len - START_LEN + 1, 0)
    known = cached_last_start_ptr.numpy()[req]
    last_start = _last_match(token_at, start_ids, first, text_len, known)
    first = np.maximum(total_len - NATURAL_END_LEN + 1, 0)
    known = cached_last_end_ptr.numpy()[req]
    last_end = _last_match(token_at, end_ids, first, text_len, known)

    is_thinking = (last_start >= 0) & (last_start > last_end)
    is_over = is_thinking & (text_len - last_start - START_LEN >= budget[rows])
    if np.count_nonzero(is_over) == 0:
        return
    forced = reasoning_end_token_ids_ptr.numpy()
    num_forced = _forced_prefix_len(token_at, forced, text_len)
    assign(logits_ptr, rows[is_over], forced[num_forced[is_over]], _FORCED_LOGIT)


def _text(
    all_token_ids: np.ndarray,
    input_ids: np.ndarray,
    req: np.ndarray,
    rows: np.ndarray,
    num_drafts: np.ndarray,
    total_len: np.ndarray,
) -> TokenAt:
    """Return a look-up of places ``[num_rows, n]`` in committed tokens and drafts.

    Row 0 of a request holds its last committed token, so the first draft is in the row after it.
    Places outside the text give an arbitrary token.
    """
    first_draft = (rows - num_drafts + 1)[:, None]
    total = total_len[:, None]
    last_draft = num_drafts[:, None] - 1
    owner = req[:, None]

    def token_at(places: np.ndarray) -> np.ndarray:
        committed = all_token_ids[owner, np.clip(places, 0, total - 1)]
        drafts = np.clip(places - total, 0, last_draft)
        return np.where(places < total, committed, input_ids[first_draft + drafts - (drafts < 0)])

    return token_at


def _last_match(
    token_at: TokenAt, ids: np.ndarray, first: np.ndarray, end: np.ndarray, default: np.ndarray
) -> np.ndarray:
    """Return per row the last place in ``[first, end)`` where `ids` stand, else `default`."""
    width = int((end - first).max()) - len(ids) + 1
    if width <= 0:
        return default
    places = first[:, None] + steps(width)
    is_match = places + len(ids) <= end[:, None]
    for j, token in enumerate(ids.tolist()):  # a marker is a few tokens
        is_match &= token_at(places + j) == token
    found = np.where(is_match, places, -1).max(axis=1)
    return np.where(found >= 0, found, default)


def _forced_prefix_len(token_at: TokenAt, forced: np.ndarray, text_len: np.ndarray) -> np.ndarray:
    """Return per row how much of the end sequence the text already ends with."""
    num_forced = np.zeros(len(text_len), np.int64)
    for length in range(1, len(forced)):
        tail = token_at((text_len - length)[:, None] + steps(length))
        is_prefix = (tail == forced[:length]).all(axis=1) & (text_len >= length)
        num_forced[is_prefix] = length
    return num_forced


def _scan_backward(
    known: np.ndarray, start_ids: np.ndarray, end_ids: np.ndarray, block: int
) -> tuple[int, int]:
    """Return the last start and end marker of a prompt, -1 where there is none.

    The kernel walks back block by block and stops at the first one with a marker: a marker of the
    other kind further back stays unseen. Only their order matters, but the cache has to be equal.
    """
    last_start, last_end = _last_in(known, start_ids), _last_in(known, end_ids)
    newest = len(known) - 1
    start_block, end_block = (newest - last_start) // block, (newest - last_end) // block
    if last_start >= 0 and last_end >= 0 and start_block != end_block:
        return (last_start, -1) if start_block < end_block else (-1, last_end)
    return last_start, last_end


def _last_in(known: np.ndarray, ids: np.ndarray) -> int:
    num_places = len(known) - len(ids) + 1
    if num_places <= 0:
        return -1
    is_match = known[:num_places] == ids[0]
    for j in range(1, len(ids)):
        is_match &= known[j : j + num_places] == ids[j]
    places = is_match.nonzero()[0]
    return int(places[-1]) if len(places) else -1
