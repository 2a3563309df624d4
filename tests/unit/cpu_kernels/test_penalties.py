"""Penalties and token statistics against the Triton kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_diffusion.engine.cpu import penalties

from .batches import BATCH_SIZES, MAX_LEN, MAX_REQS, VOCAB, ints
from .harness import F16, F32, I32, I64, check
from .oracle import Oracle

WORDS = -(-VOCAB // 32)


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("max_drafts", [0, 6])
def test_penalties(
    oracle: Oracle,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    num_reqs: int,
    dtype: torch.dtype,
    max_drafts: int,
) -> None:
    monkeypatch.setattr(penalties, "_CHUNK", 3 * VOCAB)  # several groups of rows
    rows_per_req = rng.integers(1, max_drafts + 2, num_reqs)
    num_rows = int(rows_per_req.sum())
    local_pos = [p for n in rows_per_req for p in range(n)]
    req = rng.permutation(MAX_REQS)[:num_reqs].repeat(rows_per_req)
    prompt_bits = rng.integers(-(2**31), 2**31, (MAX_REQS, WORDS))
    prompt_bits[:, -1] &= 2 ** (VOCAB % 32) - 1  # no bits of tokens that do not exist
    args = [
        torch.from_numpy(rng.normal(0, 3, (num_rows, VOCAB))).to(dtype),
        VOCAB,
        ints(req, I64),
        ints(rng.integers(0, 9, num_rows)),
        ints(local_pos),
        torch.tensor(rng.choice([1.0, 1.3, 0.8], MAX_REQS), dtype=F32),
        torch.tensor(rng.choice([0.0, 0.5, -0.25], MAX_REQS), dtype=F32),
        torch.tensor(rng.choice([0.0, 0.7], MAX_REQS), dtype=F32),
        ints(prompt_bits),
        WORDS,
        ints(rng.choice([0, 0, 0, 1, 3], (MAX_REQS, VOCAB))),
        VOCAB,
        VOCAB,
    ]
    check(oracle, "gpu.sample.penalties._penalties_kernel", (num_rows, 2), args, BLOCK_SIZE=64)


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
def test_bincount(oracle: Oracle, rng: np.random.Generator, num_reqs: int) -> None:
    prefill_len = rng.integers(1, MAX_LEN + 1, MAX_REQS)
    args = [
        ints(rng.permutation(MAX_REQS)[:num_reqs], I64),
        ints(rng.integers(0, VOCAB, (MAX_REQS, MAX_LEN))),
        MAX_LEN,
        ints(prefill_len - rng.integers(0, prefill_len)),
        ints(prefill_len),
        torch.zeros(MAX_REQS, WORDS, dtype=I32),
        WORDS,
        torch.zeros(MAX_REQS, VOCAB, dtype=I32),
        VOCAB,
    ]
    check(
        oracle,
        "gpu.sample.penalties._bincount_kernel",
        (num_reqs, MAX_LEN // 16),
        args,
        BLOCK_SIZE=16,
    )
