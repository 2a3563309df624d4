"""Bookkeeping after a step against the Triton kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_diffusion.cpu.registry import WORKER
from vllm_diffusion.cpu.update import post_update, post_update_with_drafts

from .batches import BATCH_SIZES, MAX_LEN, MAX_REQS, VOCAB, ints, random_batch
from .harness import I32, I64, check
from .oracle import Oracle, parameters

UPDATE = "gpu.input_batch._post_update_kernel"
NUM_DRAFTS = 3


def drafts(rng: np.random.Generator, num_reqs: int) -> list[object]:
    """Those that came from another stage, and where they go: since 0.33."""
    return [
        ints(rng.integers(0, VOCAB, (num_reqs, NUM_DRAFTS)), I64),
        torch.full((MAX_REQS, NUM_DRAFTS), -7, dtype=I64),
        NUM_DRAFTS,
    ]


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
@pytest.mark.parametrize("width", [1, 16])
@pytest.mark.parametrize(
    ("with_counts", "with_queries", "with_skipped", "with_drafts"),
    [
        (True, True, False, False),
        (True, True, True, False),
        (False, False, False, False),
        (False, False, False, True),
        (True, True, True, True),
    ],
)
def test_post_update(
    oracle: Oracle,
    rng: np.random.Generator,
    num_reqs: int,
    width: int,
    with_counts: bool,
    with_queries: bool,
    with_skipped: bool,
    with_drafts: bool,
) -> None:
    knows_drafts = "draft_tokens_ptr" in parameters(WORKER + UPDATE)
    if with_drafts and not knows_drafts:
        pytest.skip("this vLLM's kernel knows no drafts")
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
    if knows_drafts:
        args += drafts(rng, num_reqs) if with_drafts else [None, None, 0]
    check(oracle, UPDATE, (num_reqs,), args, num_warps=1)


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
@pytest.mark.parametrize("with_drafts", [False, True])
def test_drafts_against_loops(rng: np.random.Generator, num_reqs: int, with_drafts: bool) -> None:
    """The kernel as it is since 0.33, whichever vLLM is installed."""
    idx_mapping = random_batch(rng, num_reqs).idx_mapping
    idx_mapping[::2] = -1
    sent, rows, number = drafts(rng, num_reqs)
    state = [ints(np.zeros(MAX_REQS)), ints(np.zeros((MAX_REQS, 1)), I64), None, 0]
    sampled = [ints(rng.integers(0, VOCAB, (num_reqs, 1)), I64), 1]
    counts = [ints(np.ones(num_reqs)), ints(np.zeros(num_reqs)), None]
    all_token_ids, total_len = torch.zeros(MAX_REQS, MAX_LEN, dtype=I32), ints(np.zeros(MAX_REQS))
    post_update_with_drafts(
        idx_mapping,
        *state,
        *sampled,
        *counts,
        all_token_ids,
        MAX_LEN,
        total_len,
        *((sent, rows, number) if with_drafts else (None, None, 0)),
        num_warps=1,
    )
    expected = torch.full((MAX_REQS, NUM_DRAFTS), -7, dtype=I64)
    for row, req in enumerate(idx_mapping.tolist()):
        if req >= 0 and with_drafts:
            expected[req] = sent[row]
        assert req < 0 or all_token_ids[req, 0] == sampled[0][row, 0]
    assert torch.equal(rows, expected)
    assert total_len.sum() == (idx_mapping >= 0).sum()


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
