"""Temperature and min-p against the Triton kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .batches import MAX_REQS, VOCAB, ints
from .harness import F16, F32, I64, check
from .oracle import Oracle

NUM_ROWS = [0, 1, 9]


def rows_args(
    rng: np.random.Generator, num_rows: int, dtype: torch.dtype, values: list[float]
) -> list:
    return [
        torch.from_numpy(rng.normal(0, 3, (num_rows, VOCAB)).astype(np.float32)).to(dtype),
        VOCAB,
        ints(rng.integers(0, MAX_REQS, num_rows), I64),
        torch.tensor(rng.choice(values, MAX_REQS), dtype=F32),
        VOCAB,
    ]


@pytest.mark.parametrize("num_rows", NUM_ROWS)
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("temperatures", [[0.0, 1.0], [0.0, 1.0, 0.3, 1.7]])
def test_temperature(
    oracle: Oracle,
    rng: np.random.Generator,
    num_rows: int,
    dtype: torch.dtype,
    temperatures: list[float],
) -> None:
    args = rows_args(rng, num_rows, dtype, temperatures)
    check(oracle, "gpu.sample.gumbel._temperature_kernel", (num_rows, 2), args, BLOCK_SIZE=64)


@pytest.mark.parametrize("num_rows", NUM_ROWS)
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("min_p", [[0.0], [0.0, 0.02, 0.5, 1.0]])
def test_min_p(
    oracle: Oracle,
    rng: np.random.Generator,
    num_rows: int,
    dtype: torch.dtype,
    min_p: list[float],
) -> None:
    args = rows_args(rng, num_rows, dtype, min_p)
    check(oracle, "gpu.sample.min_p._min_p_kernel", (num_rows,), args, BLOCK_SIZE=32)
