"""Trace replay, sampling masks, NaN counts and page clearing against the Triton kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_diffusion.engine.cpu.kv_cache import zero_kv_blocks

from .batches import MAX_LEN, MAX_REQS, VOCAB, cumulative, ints
from .harness import F16, F32, I32, I64, check
from .oracle import POINTERS, Oracle


@pytest.mark.parametrize("num_reqs", [0, 1, 12])
def test_trace_replay(oracle: Oracle, rng: np.random.Generator, num_reqs: int) -> None:
    req = rng.permutation(MAX_REQS)[:num_reqs]
    req[rng.integers(0, 4, num_reqs) == 0] = -1
    args = [
        torch.full((num_reqs,), -7, dtype=I64),
        ints(req, I64),
        ints(rng.integers(0, VOCAB, (MAX_REQS, MAX_LEN))),
        MAX_LEN,
        ints(rng.choice([0, 4, 9], MAX_REQS)),
        ints(rng.integers(5, 15, MAX_REQS)),
        ints(rng.integers(4, 8, MAX_REQS)),
    ]
    check(oracle, "gpu.sample.trace_replay._trace_replay_kernel", (num_reqs,), args)


@pytest.mark.parametrize("num_reqs", [0, 1, 7])
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("rows_per_request", [1, 3])
@pytest.mark.parametrize("max_num_kept", [4, VOCAB])
def test_sampling_mask(
    oracle: Oracle,
    rng: np.random.Generator,
    num_reqs: int,
    dtype: torch.dtype,
    rows_per_request: int,
    max_num_kept: int,
) -> None:
    num_logits = rng.integers(rows_per_request, rows_per_request + 2, num_reqs)
    logits = torch.from_numpy(rng.normal(0, 3, (int(num_logits.sum()), VOCAB))).to(dtype)
    logits[torch.from_numpy(rng.random(logits.shape) < 0.8)] = -torch.inf
    logits[:, ::23] = torch.nan
    num_rows = num_reqs * rows_per_request
    num_bytes = -(-VOCAB // 8)
    args = [
        logits,
        VOCAB,
        1,
        cumulative(num_logits),
        ints(rng.integers(0, rows_per_request + 1, num_reqs)),
        torch.full((num_rows, max_num_kept), -7, dtype=I32),
        max_num_kept,
        torch.full((num_rows, num_bytes), 99, dtype=torch.uint8),
        num_bytes,
        torch.full((num_rows,), -7, dtype=I32),
        VOCAB,
        max_num_kept,
    ]
    check(
        oracle,
        "gpu.sample.output._compact_sampling_mask_kernel",
        (num_rows,),
        args,
        ROWS_PER_REQUEST=rows_per_request,
        BLOCK_SIZE=32,
    )


@pytest.mark.parametrize("num_rows", [0, 1, 5])
@pytest.mark.parametrize("dtype", [F32, F16])
def test_num_nans(
    oracle: Oracle, rng: np.random.Generator, num_rows: int, dtype: torch.dtype
) -> None:
    logits = torch.from_numpy(rng.normal(0, 3, (num_rows, VOCAB))).to(dtype)
    logits[torch.from_numpy(rng.random(logits.shape) < 0.2)] = torch.nan
    logits[:, 3] = torch.inf
    args = [logits, VOCAB, torch.full((num_rows,), -7, dtype=I32), VOCAB]
    check(oracle, "gpu.metrics.logits._num_nans_kernel", (num_rows,), args, BLOCK_SIZE=32)


@pytest.mark.parametrize("num_blocks", [0, 1, 3])
def test_zero_kv_blocks(oracle: Oracle, rng: np.random.Generator, num_blocks: int) -> None:
    pages = [torch.full((8, 40), 7, dtype=I32), torch.full((8, 24), 7, dtype=I32)]
    args = [
        (POINTERS, pages),
        ints([40, 24], I64),
        ints([33, 24], I64),
        ints(rng.permutation(8)[:num_blocks], I64),
    ]
    check(oracle, "utils._zero_kv_blocks_kernel", (num_blocks, 2, 5), args, BLOCK_SIZE=8)


def test_zero_kv_blocks_leaves_neighbours_alone() -> None:
    pages = torch.ones(4, 6, dtype=I32)
    address = torch.tensor([pages.data_ptr()], dtype=torch.uint64)
    zero_kv_blocks(address, ints([6], I64), ints([4], I64), ints([2], I64), BLOCK_SIZE=4)
    assert pages.sum(dim=1).tolist() == [6, 6, 2, 6]
