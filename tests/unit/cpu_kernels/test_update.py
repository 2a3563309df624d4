"""Bookkeeping after a step against the Triton kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_diffusion.cpu.update import post_update

from .batches import BATCH_SIZES, MAX_LEN, MAX_REQS, VOCAB, ints, random_batch
from .harness import I32, I64, check
from .oracle import Oracle


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
@pytest.mark.parametrize("width", [1, 16])
@pytest.mark.parametrize(
    ("with_counts", "with_queries", "with_skipped"),
    [(True, True, False), (True, True, True), (False, False, False)],
)
def test_post_update(
    oracle: Oracle,
    rng: np.random.Generator,
    num_reqs: int,
    width: int,
    with_counts: bool,
    with_queries: bool,
    with_skipped: bool,
) -> None:
    batch = random_batch(rng, num_reqs)
    idx_mapping = batch.idx_mapping
    if with_skipped:
        idx_mapping[::2] = -1
    args = [
        idx_mapping,
        batch.num_computed,
        ints(rng.integers(0, VOCAB, (MAX_REQS, 1)), I64),
        ints(rng.integers(0, 3, (MAX_REQS, VOCAB))) if with_counts else None,
        VOCAB if with_counts else 0,
        ints(rng.integers(0, 9, (num_reqs, width)), I64),  # few ids: a token may repeat
        width,
        ints(rng.choice([0, width // 2, width], num_reqs)),
        ints(rng.integers(0, 4, num_reqs)),
        batch.query_start_loc if with_queries else None,
        batch.all_token_ids,
        MAX_LEN,
        ints(rng.integers(1, MAX_LEN - width + 1, MAX_REQS)),
    ]
    check(oracle, "gpu.input_batch._post_update_kernel", (num_reqs,), args, num_warps=1)


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
def test_post_update_num_computed_tokens(
    oracle: Oracle, rng: np.random.Generator, num_reqs: int
) -> None:
    batch = random_batch(rng, num_reqs)
    args = [batch.idx_mapping, batch.num_computed, batch.query_start_loc]
    kernel = "gpu.input_batch._post_update_num_computed_tokens_kernel"
    check(oracle, kernel, (num_reqs,), args, num_warps=1)


def test_post_update_stays_inside_the_row() -> None:
    """The kernel would write past the row of a full request; the replacement drops the rest."""
    all_token_ids = torch.zeros(2, 4, dtype=I32)
    total_len = ints([3, 0])
    post_update(
        ints([0], I64),
        ints([0, 0]),
        ints([[0], [0]], I64),
        None,
        0,
        ints([[5, 6]], I64),
        2,
        ints([2]),
        ints([0]),
        None,
        all_token_ids,
        4,
        total_len,
    )
    assert all_token_ids.tolist() == [[0, 0, 0, 5], [0, 0, 0, 0]]
    assert total_len.tolist() == [5, 0]
