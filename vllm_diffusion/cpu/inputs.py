"""Model inputs of a step: token ids, positions, sequence lengths, and which rows want logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vllm_diffusion.cpu.ragged import copy_segments, steps


def prepare_prefill_inputs(
    input_ids_ptr: Tensor,
    next_prefill_tokens_ptr: Tensor,
    next_prefill_tokens_stride: int,
    num_lookahead: int,
    idx_mapping_ptr: Tensor,
    query_start_loc_ptr: Tensor,
    all_token_ids_ptr: Tensor,
    all_token_ids_stride: int,
    prefill_lens_ptr: Tensor,
    num_computed_tokens_ptr: Tensor,
    BLOCK_SIZE: int,
    LOOKAHEAD_BLOCK: int,
    **_: Any,
) -> None:
    """Replace ``input_batch._prepare_prefill_inputs_kernel``: known tokens of requests still in
    prefill, and the `num_lookahead` tokens that follow (0 past the end of the prompt)."""
    req = idx_mapping_ptr.numpy()
    num_reqs = len(req)
    num_computed = num_computed_tokens_ptr.numpy()[req]
    prefill_len = prefill_lens_ptr.numpy()[req]
    is_prefill = num_computed < prefill_len
    num_prefills = np.count_nonzero(is_prefill)
    if num_prefills == 0:
        return
    cu_query = query_start_loc_ptr.numpy()
    starts = cu_query[:num_reqs]
    lens = cu_query[1 : num_reqs + 1] - starts
    if num_prefills != num_reqs:
        req, starts, lens = req[is_prefill], starts[is_prefill], lens[is_prefill]
        num_computed, prefill_len = num_computed[is_prefill], prefill_len[is_prefill]
    all_token_ids = all_token_ids_ptr.numpy().reshape(-1)
    rows = req * all_token_ids_stride
    copy_segments(input_ids_ptr.numpy(), starts, all_token_ids, rows + num_computed, lens)

    ahead = (num_computed + lens) + steps(num_lookahead)[:, None]
    in_prefill = ahead < prefill_len
    ahead += rows
    ahead *= in_prefill  # index 0 where nothing is to be read
    next_prefill_tokens_ptr.numpy()[:, req] = all_token_ids[ahead] * in_prefill


def prepare_pos_seq_lens(
    pos_ptr: Tensor,
    seq_lens_ptr: Tensor,
    idx_mapping_ptr: Tensor,
    query_start_loc_ptr: Tensor,
    num_computed_tokens_ptr: Tensor,
    max_num_reqs: int,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``input_batch._prepare_pos_seq_lens_kernel``: positions go on from what each request
    has computed; sequence lengths past the batch become 0."""
    req = idx_mapping_ptr.numpy()
    num_reqs = len(req)
    seq_lens = seq_lens_ptr.numpy()
    seq_lens[num_reqs:max_num_reqs] = 0
    if num_reqs == 0:
        return
    num_computed = num_computed_tokens_ptr.numpy()[req]
    cu_query = query_start_loc_ptr.numpy()
    starts = cu_query[:num_reqs]
    lens = cu_query[1 : num_reqs + 1] - starts
    np.add(num_computed, lens, out=seq_lens[:num_reqs])
    total = int(cu_query[num_reqs])
    shift = num_computed - starts
    np.add(shift.repeat(lens), steps(total), out=pos_ptr.numpy()[:total])


def combine_sampled_and_draft_tokens(
    input_ids_ptr: Tensor,
    idx_mapping_ptr: Tensor,
    last_sampled_tokens_ptr: Tensor,
    query_start_loc_ptr: Tensor,
    seq_lens_ptr: Tensor,
    prefill_len_ptr: Tensor,
    draft_tokens_ptr: Tensor,
    draft_tokens_stride: int,
    cu_num_logits_ptr: Tensor,
    logits_indices_ptr: Tensor,
    BLOCK_SIZE: int,
    NUM_NEW_SAMPLED_TOKENS: int = 1,
    **_: Any,
) -> None:
    """Replace ``input_batch._combine_sampled_and_draft_tokens_kernel``.

    The logits rows of a request are the last ones of its query. Those rows take the last sampled
    token (if one is sampled per step) followed by the draft tokens, unless the request is still in
    prefill. For a diffusion model the "drafts" are the canvas and every logits row has one.
    """
    req = idx_mapping_ptr.numpy()
    num_reqs = len(req)
    if num_reqs == 0:
        return
    cu_logits = cu_num_logits_ptr.numpy()
    logits_start = cu_logits[:num_reqs]
    logits_end = cu_logits[1 : num_reqs + 1]
    query_end = query_start_loc_ptr.numpy()[1 : num_reqs + 1]
    total = int(cu_logits[num_reqs])
    logits_indices = logits_indices_ptr.numpy()[:total]
    seq_lens = seq_lens_ptr.numpy()[:num_reqs]
    prefill_len = prefill_len_ptr.numpy()[req]
    is_generating = seq_lens > prefill_len
    input_ids = input_ids_ptr.numpy()
    if NUM_NEW_SAMPLED_TOKENS:
        last_sampled = last_sampled_tokens_ptr.numpy().reshape(-1)
        if total == num_reqs:  # no drafts: one row each, which no prompt tail can reach
            np.subtract(query_end, 1, out=logits_indices)
            input_ids[logits_indices[is_generating]] = last_sampled[req[is_generating]]
            return
    num_logits = logits_end - logits_start
    np.add((query_end - logits_end).repeat(num_logits), steps(total), out=logits_indices)
    num_generating = np.count_nonzero(is_generating)
    if num_generating == 0:
        return
    if NUM_NEW_SAMPLED_TOKENS:
        # A query may still cover the tail of the prompt: leave it as it is.
        has_last = is_generating & (seq_lens - num_logits >= prefill_len)
        input_ids[(query_end - num_logits)[has_last]] = last_sampled[req[has_last]]
    owner = req.repeat(num_logits)
    column = steps(total) - (logits_start + NUM_NEW_SAMPLED_TOKENS).repeat(num_logits)
    if NUM_NEW_SAMPLED_TOKENS or num_generating != num_reqs:
        is_draft = is_generating.repeat(num_logits) & (column >= 0)
        logits_indices, owner, column = logits_indices[is_draft], owner[is_draft], column[is_draft]
    input_ids[logits_indices] = draft_tokens_ptr.numpy()[owner, column]


def expand_idx_mapping(
    idx_mapping_ptr: Tensor,
    expanded_idx_mapping_ptr: Tensor,
    expanded_local_pos_ptr: Tensor,
    cu_num_logits_ptr: Tensor,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``input_batch._expand_idx_mapping_kernel``: per logits row, the request and the place
    inside it."""
    req = idx_mapping_ptr.numpy()
    num_reqs = len(req)
    cu_logits = cu_num_logits_ptr.numpy()[: num_reqs + 1]
    starts = cu_logits[:-1]
    num_logits = cu_logits[1:] - starts
    total = int(cu_logits[num_reqs])
    expanded_idx_mapping_ptr.numpy()[:total] = req.repeat(num_logits)
    np.subtract(
        steps(total),
        starts.repeat(num_logits),
        out=expanded_local_pos_ptr.numpy()[:total],
        casting="same_kind",
    )
