"""Staged writes against the Triton kernel. Writes of one launch do not overlap: it has no order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .batches import BATCH_SIZES, MAX_LEN, MAX_REQS, cumulative, ints
from .harness import F32, I32, I64, check
from .oracle import POINTERS, Oracle

KERNEL = "gpu.buffer_utils._apply_write_kernel"
BATCH_SIZES = [n for n in BATCH_SIZES if n]  # the runner launches nothing without writes


@pytest.mark.parametrize("num_writes", BATCH_SIZES)
@pytest.mark.parametrize("dtype", [I32, I64, F32])
@pytest.mark.parametrize("longest", [1, 6, 90])
def test_rows(
    oracle: Oracle, rng: np.random.Generator, num_writes: int, dtype: torch.dtype, longest: int
) -> None:
    lens = rng.integers(1, longest + 1, num_writes)
    args = [
        torch.zeros(MAX_REQS, MAX_LEN, dtype=dtype),
        MAX_LEN,
        ints(rng.permutation(MAX_REQS)[:num_writes]),
        ints(rng.integers(0, MAX_LEN - longest, num_writes)),
        torch.arange(1, lens.sum() + 1).to(dtype),
        cumulative(lens)[1:],
        None,
    ]
    check(oracle, KERNEL, (num_writes,), args, BLOCK_SIZE=32, MULTI_GROUP=False)


@pytest.mark.parametrize("num_writes", BATCH_SIZES)
def test_elements_of_a_vector(oracle: Oracle, rng: np.random.Generator, num_writes: int) -> None:
    args = [
        torch.zeros(MAX_REQS, dtype=I32),
        1,
        ints(rng.permutation(MAX_REQS)[:num_writes]),
        torch.zeros(num_writes, dtype=I32),
        ints(rng.integers(1, 99, num_writes)),
        cumulative(np.ones(num_writes, int))[1:],
        None,
    ]
    check(oracle, KERNEL, (num_writes,), args, BLOCK_SIZE=32, MULTI_GROUP=False)


@pytest.mark.parametrize("num_writes", BATCH_SIZES)
def test_several_groups(oracle: Oracle, rng: np.random.Generator, num_writes: int) -> None:
    lens = rng.integers(1, 9, num_writes)
    tables = [torch.zeros(MAX_REQS, 32, dtype=I32), torch.zeros(MAX_REQS, 48, dtype=I32)]
    args = [
        (POINTERS, tables),
        ints([32, 48], I64),
        ints(rng.permutation(MAX_REQS)[:num_writes]),
        ints(rng.integers(0, 20, num_writes)),
        torch.arange(1, lens.sum() + 1, dtype=I32),
        cumulative(lens)[1:],
        ints(rng.integers(0, 2, num_writes)),
    ]
    check(oracle, KERNEL, (num_writes,), args, BLOCK_SIZE=4, MULTI_GROUP=True)
