"""Bad words against the Triton kernel, over a tiny alphabet so that prefixes do match."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .batches import MAX_LEN, MAX_REQS, VOCAB, ints
from .harness import F16, F32, I64, check
from .oracle import Oracle

MAX_WORDS = 6


@pytest.mark.parametrize("num_reqs", [0, 1, 6])
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("max_drafts", [0, 5])
@pytest.mark.parametrize("longest", [1, 4])
def test_bad_words(
    oracle: Oracle,
    rng: np.random.Generator,
    num_reqs: int,
    dtype: torch.dtype,
    max_drafts: int,
    longest: int,
) -> None:
    rows_per_req = rng.integers(1, max_drafts + 2, num_reqs)
    num_rows = int(rows_per_req.sum())
    lens = rng.integers(1, longest + 1, (MAX_REQS, MAX_WORDS))
    offsets = np.concatenate([np.zeros((MAX_REQS, 1), int), lens.cumsum(axis=1)], axis=1)
    prompt_len = rng.integers(1, 9, MAX_REQS)
    args = [
        torch.from_numpy(rng.normal(0, 3, (num_rows, VOCAB))).to(dtype),
        VOCAB,
        ints(rng.permutation(MAX_REQS)[:num_reqs].repeat(rows_per_req), I64),
        ints(rng.integers(0, 3, (MAX_REQS, MAX_WORDS * longest))),
        MAX_WORDS * longest,
        ints(offsets),
        MAX_WORDS + 1,
        ints(rng.integers(0, MAX_WORDS + 1, MAX_REQS)),
        ints(rng.integers(0, 3, (MAX_REQS, MAX_LEN))),
        MAX_LEN,
        ints(prompt_len),
        ints(prompt_len + rng.integers(0, 6, MAX_REQS)),
        ints(rng.integers(0, 3, num_rows)),
        ints([p for n in rows_per_req for p in range(n)]),
    ]
    grid = (num_rows, MAX_WORDS)
    check(oracle, "gpu.sample.bad_words._bad_words_kernel", grid, args)
