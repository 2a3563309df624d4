"""The thinking budget against the Triton kernels, over an alphabet in which markers turn up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .batches import MAX_LEN, MAX_REQS, VOCAB, ints
from .harness import F16, F32, I64, check
from .oracle import Oracle

MARKERS = [
    ([1], [2], [2]),
    ([1, 0], [2, 0], [2, 0, 1]),
    ([1], [2, 0], [0, 2, 0]),
]


def budgets(rng: np.random.Generator, largest: int) -> torch.Tensor:
    return ints(rng.integers(-1, largest, MAX_REQS))


@pytest.mark.parametrize("num_reqs", [0, 1, 8])
@pytest.mark.parametrize("markers", MARKERS)
@pytest.mark.parametrize("num_letters", [3, 12])
def test_marker_cache(
    oracle: Oracle,
    rng: np.random.Generator,
    num_reqs: int,
    markers: tuple[list[int], list[int], list[int]],
    num_letters: int,
) -> None:
    start, natural_end, _ = markers
    total_len = rng.integers(0, MAX_LEN + 1, MAX_REQS)
    args = [
        ints(rng.permutation(MAX_REQS)[:num_reqs], I64),
        budgets(rng, 9),
        ints(rng.integers(0, num_letters, (MAX_REQS, MAX_LEN))),
        MAX_LEN,
        ints(total_len),
        ints(rng.integers(-1, 3, MAX_REQS)),
        ints(rng.integers(-1, 3, MAX_REQS)),
        # Just added, a few tokens behind, or left over from a longer request.
        ints(np.maximum(total_len - rng.choice([MAX_LEN, 3, 1, -5], MAX_REQS), 0)),
        ints(start),
        ints(natural_end),
    ]
    is_new = torch.from_numpy(rng.integers(0, 2, MAX_REQS).astype(bool))
    args[5][is_new] = -1
    args[6][is_new] = -1
    check(
        oracle,
        "gpu.sample.thinking_budget._update_committed_marker_cache_kernel",
        (num_reqs,),
        args,
        START_LEN=len(start),
        NATURAL_END_LEN=len(natural_end),
        MAX_LEN=max(len(start), len(natural_end)),
        BLOCK=4,
    )


@pytest.mark.parametrize("num_reqs", [0, 1, 8])
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("markers", MARKERS)
@pytest.mark.parametrize("max_drafts", [0, 5])
def test_budget(
    oracle: Oracle,
    rng: np.random.Generator,
    num_reqs: int,
    dtype: torch.dtype,
    markers: tuple[list[int], list[int], list[int]],
    max_drafts: int,
) -> None:
    start, natural_end, end = markers
    rows_per_req = rng.integers(1, max_drafts + 2, num_reqs)
    num_rows = int(rows_per_req.sum())
    args = [
        torch.from_numpy(rng.normal(0, 3, (num_rows, VOCAB))).to(dtype),
        VOCAB,
        ints(rng.permutation(MAX_REQS)[:num_reqs].repeat(rows_per_req), I64),
        budgets(rng, 4),
        ints(rng.integers(0, 3, (MAX_REQS, MAX_LEN))),
        MAX_LEN,
        ints(rng.integers(1, 12, MAX_REQS)),
        ints(rng.integers(0, 3, num_rows)),
        ints([p for n in rows_per_req for p in range(n)]),
        ints(rng.integers(-1, 6, MAX_REQS)),
        ints(rng.integers(-1, 3, MAX_REQS)),
        ints(start),
        ints(natural_end),
        ints(end),
    ]
    check(
        oracle,
        "gpu.sample.thinking_budget._thinking_budget_kernel",
        (num_rows,),
        args,
        START_LEN=len(start),
        NATURAL_END_LEN=len(natural_end),
        END_LEN=len(end),
    )
