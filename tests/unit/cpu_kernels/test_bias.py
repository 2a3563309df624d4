"""Allowed ids, logit bias and minimum length against the Triton kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .batches import MAX_REQS, VOCAB, ints
from .harness import F16, F32, I64, check
from .oracle import Oracle

WIDTH = 8


def distinct_tokens(rng: np.random.Generator) -> torch.Tensor:
    return ints([rng.permutation(VOCAB)[:WIDTH] for _ in range(MAX_REQS)])


@pytest.mark.parametrize("num_rows", [0, 1, 12])
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("check_all_masked", [False, True])
@pytest.mark.parametrize("used", ["nothing", "allowed", "bias", "stops", "everything"])
def test_bias(
    oracle: Oracle,
    rng: np.random.Generator,
    num_rows: int,
    dtype: torch.dtype,
    check_all_masked: bool,
    used: str,
) -> None:
    def counts(what: str) -> torch.Tensor:
        is_used = used in (what, "everything")
        return ints(rng.integers(0, WIDTH + 1, MAX_REQS) * is_used)

    stop_token_ids = distinct_tokens(rng)
    req = ints(rng.integers(0, MAX_REQS, num_rows), I64)
    logits = torch.from_numpy(rng.normal(0, 3, (num_rows, VOCAB))).to(dtype)
    # Rows whose grammar leaves nothing but stop tokens (or not even those).
    for row in range(0, num_rows, 2):
        stops = stop_token_ids[req[row], : 1 + row % 5].long()
        kept = logits[row, stops]
        logits[row] = -torch.inf
        logits[row, stops] = kept
    args = [
        logits,
        VOCAB,
        VOCAB,
        req,
        counts("allowed"),
        distinct_tokens(rng),
        WIDTH,
        counts("bias"),
        distinct_tokens(rng),
        WIDTH,
        torch.from_numpy(rng.normal(0, 5, (MAX_REQS, WIDTH))).to(F32),
        WIDTH,
        ints(rng.integers(0, 20, num_rows), I64),
        ints(rng.integers(0, 20, MAX_REQS)),
        counts("stops"),
        ints(rng.integers(0, 2, MAX_REQS)),
        stop_token_ids,
        WIDTH,
    ]
    check(
        oracle,
        "gpu.sample.logit_bias._bias_kernel",
        (num_rows,),
        args,
        BLOCK_SIZE=16,
        LOGITS_BLOCK_SIZE=32,
        CHECK_ALL_MASKED_ROWS=check_all_masked,
    )
