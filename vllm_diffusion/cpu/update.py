"""Bookkeeping after a step: what was emitted, how far each request has come."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vllm_diffusion.cpu.ragged import steps


def post_update(
    idx_mapping_ptr: Tensor,
    num_computed_tokens_ptr: Tensor,
    last_sampled_tokens_ptr: Tensor,
    output_bin_counts_ptr: Tensor | None,
    output_bin_counts_stride: int,
    sampled_tokens_ptr: Tensor,
    sampled_tokens_stride: int,
    num_sampled_ptr: Tensor,
    num_rejected_ptr: Tensor,
    query_start_loc_ptr: Tensor | None,
    all_token_ids_ptr: Tensor,
    all_token_ids_stride: int,
    total_len_ptr: Tensor,
    **_: Any,
) -> None:
    """Replace ``input_batch._post_update_kernel`` of vLLM 0.32: append tokens, advance the count.

    A negative request index means skip. Tokens that would leave the request's row (past the model's
    length) are dropped; Triton writes them into the neighbour's row.
    """
    req = idx_mapping_ptr.numpy()
    num_reqs = len(req)
    num_sampled = num_sampled_ptr.numpy()[:num_reqs]
    num_rejected = num_rejected_ptr.numpy()[:num_reqs]
    if query_start_loc_ptr is None:
        delta = -num_rejected
    else:
        cu_query = query_start_loc_ptr.numpy()
        delta = cu_query[1 : num_reqs + 1] - cu_query[:num_reqs]
        delta -= num_rejected
    emits = num_sampled > 0
    is_skipped = req < 0
    if np.count_nonzero(is_skipped):
        emits &= ~is_skipped
        num_computed_tokens_ptr.numpy()[req[~is_skipped]] += delta[~is_skipped]
    else:
        num_computed_tokens_ptr.numpy()[req] += delta

    batch_rows = emits.nonzero()[0]
    if len(batch_rows) == 0:
        return
    req = req[batch_rows]
    lens = num_sampled[batch_rows]
    sampled = sampled_tokens_ptr.numpy()
    total_len = total_len_ptr.numpy()
    start = total_len[req]
    total_len[req] = start + lens
    last_sampled = last_sampled_tokens_ptr.numpy().reshape(-1)
    counts = None if output_bin_counts_ptr is None else output_bin_counts_ptr.numpy()

    width = sampled.shape[1]
    if width == 1:
        owner, place, tokens = req, start, sampled[:, 0][batch_rows]
        last_sampled[req] = tokens
        if counts is not None:
            counts[owner, tokens] += 1
    else:
        is_sampled = steps(width) < lens[:, None]
        owner = req.repeat(lens)
        place = (start[:, None] + steps(width))[is_sampled]
        tokens = sampled[batch_rows][is_sampled]
        last_sampled[req] = sampled[batch_rows, lens - 1]
        if counts is not None:  # a token may come twice in a block
            np.add.at(counts.reshape(-1), owner * output_bin_counts_stride + tokens, 1)
    if np.count_nonzero(start > all_token_ids_stride - width):
        fits = place < all_token_ids_stride
        owner, place, tokens = owner[fits], place[fits], tokens[fits]
    all_token_ids_ptr.numpy()[owner, place] = tokens


def post_update_with_drafts(
    idx_mapping_ptr: Tensor,
    num_computed_tokens_ptr: Tensor,
    last_sampled_tokens_ptr: Tensor,
    output_bin_counts_ptr: Tensor | None,
    output_bin_counts_stride: int,
    sampled_tokens_ptr: Tensor,
    sampled_tokens_stride: int,
    num_sampled_ptr: Tensor,
    num_rejected_ptr: Tensor,
    query_start_loc_ptr: Tensor | None,
    all_token_ids_ptr: Tensor,
    all_token_ids_stride: int,
    total_len_ptr: Tensor,
    draft_tokens_ptr: Tensor | None,
    draft_tokens_out_ptr: Tensor | None,
    num_draft_tokens: int,
    **_: Any,
) -> None:
    """Replace ``input_batch._post_update_kernel`` of vLLM 0.33.

    As above; and drafts that another pipeline stage has sent go to their requests' rows.
    """
    if draft_tokens_ptr is not None and draft_tokens_out_ptr is not None:
        req = idx_mapping_ptr.numpy()
        batch_rows = (req >= 0).nonzero()[0]
        drafts = draft_tokens_ptr.numpy()
        draft_tokens_out_ptr.numpy()[req[batch_rows]] = drafts[batch_rows]
    post_update(
        idx_mapping_ptr,
        num_computed_tokens_ptr,
        last_sampled_tokens_ptr,
        output_bin_counts_ptr,
        output_bin_counts_stride,
        sampled_tokens_ptr,
        sampled_tokens_stride,
        num_sampled_ptr,
        num_rejected_ptr,
        query_start_loc_ptr,
        all_token_ids_ptr,
        all_token_ids_stride,
        total_len_ptr,
    )


def post_update_num_computed_tokens(
    idx_mapping_ptr: Tensor,
    num_computed_tokens_ptr: Tensor,
    query_start_loc_ptr: Tensor,
    **_: Any,
) -> None:
    """Replace ``input_batch._post_update_num_computed_tokens_kernel``: count whole queries.

    For ranks of a pipeline that do not sample; what is taken back of them comes later.
    """
    req = idx_mapping_ptr.numpy()
    cu_query = query_start_loc_ptr.numpy()[: len(req) + 1]
    num_computed_tokens_ptr.numpy()[req] += np.diff(cu_query)
