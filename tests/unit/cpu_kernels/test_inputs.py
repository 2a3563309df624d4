"""Token ids, positions and logits rows against the Triton kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .batches import BATCH_SIZES, MAX_LEN, MAX_REQS, VOCAB, cumulative, ints, random_batch
from .harness import I32, I64, check
from .oracle import Oracle


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
@pytest.mark.parametrize("max_query", [9, 40])
@pytest.mark.parametrize("num_lookahead", [1, 3])
def test_prepare_prefill_inputs(
    oracle: Oracle, rng: np.random.Generator, num_reqs: int, max_query: int, num_lookahead: int
) -> None:
    batch = random_batch(rng, num_reqs, max_query)
    args = [
        torch.full((batch.total + 4,), -7, dtype=I32),
        torch.full((num_lookahead, MAX_REQS), -7, dtype=I32),
        MAX_REQS,
        num_lookahead,
        batch.idx_mapping,
        batch.query_start_loc,
        batch.all_token_ids,
        MAX_LEN,
        batch.prefill_len,
        batch.num_computed,
    ]
    check(
        oracle,
        "gpu.input_batch._prepare_prefill_inputs_kernel",
        (num_reqs,),
        args,
        BLOCK_SIZE=16,
        LOOKAHEAD_BLOCK=4,
    )


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
def test_prepare_pos_seq_lens(oracle: Oracle, rng: np.random.Generator, num_reqs: int) -> None:
    batch = random_batch(rng, num_reqs)
    args = [
        torch.full((batch.total + 4,), -7, dtype=I64),
        torch.full((MAX_REQS,), -7, dtype=I32),
        batch.idx_mapping,
        batch.query_start_loc,
        batch.num_computed,
        MAX_REQS,
    ]
    name = "gpu.input_batch._prepare_pos_seq_lens_kernel"
    check(oracle, name, (num_reqs + 1,), args, BLOCK_SIZE=4)


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
@pytest.mark.parametrize("num_new", [0, 1])
@pytest.mark.parametrize("max_drafts", [0, 3, 8])
def test_combine_sampled_and_draft_tokens(
    oracle: Oracle, rng: np.random.Generator, num_reqs: int, num_new: int, max_drafts: int
) -> None:
    batch = random_batch(rng, num_reqs)
    num_drafts = np.minimum(rng.integers(0, max_drafts + 1, num_reqs), batch.lens - num_new)
    cu_num_logits = cumulative(num_drafts + num_new)
    args = [
        torch.full((batch.total + 4,), -7, dtype=I32),
        batch.idx_mapping,
        ints(rng.integers(0, VOCAB, (MAX_REQS, 1)), I64),
        batch.query_start_loc,
        batch.seq_lens,
        batch.prefill_len,
        ints(rng.integers(0, VOCAB, (MAX_REQS, 8)), I64),
        8,
        cu_num_logits,
        torch.full((int(cu_num_logits[-1]),), -7, dtype=I64),
    ]
    check(
        oracle,
        "gpu.input_batch._combine_sampled_and_draft_tokens_kernel",
        (num_reqs,),
        args,
        BLOCK_SIZE=16,
        NUM_NEW_SAMPLED_TOKENS=num_new,
    )


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
@pytest.mark.parametrize("dtype", [I32, I64])
def test_expand_idx_mapping(
    oracle: Oracle, rng: np.random.Generator, num_reqs: int, dtype: torch.dtype
) -> None:
    batch = random_batch(rng, num_reqs)
    cu_num_logits = cumulative(rng.integers(0, 9, num_reqs))
    total = int(cu_num_logits[-1])
    args = [
        batch.idx_mapping.to(dtype),
        torch.full((total,), -7, dtype=dtype),
        torch.full((total,), -7, dtype=I32),
        cu_num_logits,
    ]
    check(oracle, "gpu.input_batch._expand_idx_mapping_kernel", (num_reqs,), args, BLOCK_SIZE=16)
