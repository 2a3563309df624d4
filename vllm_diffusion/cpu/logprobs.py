"""Log-probabilities of a prompt, ranks, and the token ids they are reported for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.cpu.ragged import copy_segments, steps

# Logits scored together: 64 MiB.
_CHUNK = 1 << 24


def topk_log_softmax(
    output_ptr: Tensor,
    logits_ptr: Tensor,
    logits_stride: int,
    topk_ids_ptr: Tensor,
    topk_ids_stride: int,
    topk: int,
    vocab_size: int,
    BLOCK_SIZE: int,
    TOPK_BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``logprob._topk_log_softmax_kernel``: float32 log-softmax at the given ids only.

    Torch's fused log-softmax over all tokens is twice as fast as its log-sum-exp; groups of rows
    bound what it allocates when a whole prompt is scored.
    """
    group = max(1, _CHUNK // vocab_size)
    for start in range(0, logits_ptr.shape[0], group):
        rows = slice(start, start + group)
        logprobs = torch.log_softmax(logits_ptr[rows], dim=1, dtype=torch.float32)
        torch.gather(logprobs, 1, topk_ids_ptr[rows], out=output_ptr[rows])


def ranks(
    output_ptr: Tensor,
    logits_ptr: Tensor,
    logits_stride: int,
    token_ids_ptr: Tensor,
    vocab_size: int,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``logprob._ranks_kernel``: how many tokens score at least what the given one does."""
    logits = logits_ptr.float().numpy()
    own = logits[steps(len(logits)), token_ids_ptr.numpy()]
    np.add.reduce(logits >= own[:, None], axis=1, out=output_ptr.numpy())


def prompt_logprobs_token_ids(
    prompt_logprobs_token_ids_ptr: Tensor,
    query_start_loc_ptr: Tensor,
    idx_mapping_ptr: Tensor,
    num_computed_tokens_ptr: Tensor,
    all_token_ids_ptr: Tensor,
    all_token_ids_stride: int,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``prompt_logprob._prompt_logprobs_token_ids_kernel``: for every row of the batch, the
    token that follows it."""
    req = idx_mapping_ptr.numpy()
    num_reqs = len(req)
    cu_query = query_start_loc_ptr.numpy()
    starts = cu_query[:num_reqs]
    lens = cu_query[1 : num_reqs + 1] - starts
    all_token_ids = all_token_ids_ptr.numpy().reshape(-1)
    sources = req * all_token_ids_stride + num_computed_tokens_ptr.numpy()[req] + 1
    # The last row of a request filling its whole row of the table is followed by nothing.
    lens = np.minimum(lens, len(all_token_ids) - sources)
    copy_segments(prompt_logprobs_token_ids_ptr.numpy(), starts, all_token_ids, sources, lens)
