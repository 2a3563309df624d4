"""Log probabilities, ranks and their token ids against the Triton kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_diffusion.cpu.logprobs import prompt_logprobs_token_ids, ranks

from .batches import BATCH_SIZES, MAX_LEN, VOCAB, ints, random_batch
from .harness import F16, F32, I32, I64, check
from .oracle import Oracle

NUM_ROWS = [0, 1, 9]


def random_logits(rng: np.random.Generator, num_rows: int, dtype: torch.dtype) -> torch.Tensor:
    logits = torch.from_numpy(rng.normal(0, 3, (num_rows, VOCAB)).astype(np.float32)).to(dtype)
    logits[:, ::7] = -torch.inf
    return logits


@pytest.mark.parametrize("num_rows", NUM_ROWS)
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("topk", [1, 5])
def test_topk_log_softmax(
    oracle: Oracle, rng: np.random.Generator, num_rows: int, dtype: torch.dtype, topk: int
) -> None:
    args = [
        torch.full((num_rows, topk), -7.0),
        random_logits(rng, num_rows, dtype),
        VOCAB,
        ints(rng.integers(0, VOCAB, (num_rows, topk)), I64),
        topk,
        topk,
        VOCAB,
    ]
    check(
        oracle,
        "gpu.sample.logprob._topk_log_softmax_kernel",
        (num_rows,),
        args,
        # The sum of exponentials is taken in another order.
        rtol=1e-5,
        atol=1e-6,
        BLOCK_SIZE=32,
        TOPK_BLOCK_SIZE=4,
    )


@pytest.mark.parametrize("num_rows", NUM_ROWS)
@pytest.mark.parametrize("dtype", [F32, F16])
def test_ranks(oracle: Oracle, rng: np.random.Generator, num_rows: int, dtype: torch.dtype) -> None:
    token_ids = rng.integers(0, VOCAB, num_rows)
    token_ids += token_ids % 7 == 0  # a masked token is another test
    args = [
        torch.full((num_rows,), -7, dtype=I64),
        random_logits(rng, num_rows, dtype),
        VOCAB,
        ints(token_ids, I64),
        VOCAB,
    ]
    check(oracle, "gpu.sample.logprob._ranks_kernel", (num_rows,), args, BLOCK_SIZE=32)


def test_rank_of_a_masked_token() -> None:
    """It is last. The kernel also counts its padding lanes, which hold -inf, and ranks it lower."""
    logits = torch.tensor([[1.0, -torch.inf, 2.0]])
    out = torch.zeros(1, dtype=I64)
    ranks(out, logits, 3, ints([1], I64), 3, BLOCK_SIZE=8)
    assert out.tolist() == [3]


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
def test_prompt_logprobs_token_ids(oracle: Oracle, rng: np.random.Generator, num_reqs: int) -> None:
    batch = random_batch(rng, num_reqs)
    args = [
        torch.full((batch.total,), -7, dtype=I64),
        batch.query_start_loc,
        batch.idx_mapping,
        batch.num_computed,
        batch.all_token_ids,
        MAX_LEN,
    ]
    name = "gpu.sample.prompt_logprob._prompt_logprobs_token_ids_kernel"
    check(oracle, name, (num_reqs,), args, BLOCK_SIZE=4)


def test_prompt_logprobs_of_a_full_row() -> None:
    """The kernel reads one token past the table here; nothing uses what it finds."""
    out = torch.full((4,), -7, dtype=I64)
    tokens = torch.arange(8, dtype=I32).view(2, 4)
    prompt_logprobs_token_ids(
        out, ints([0, 4]), ints([1], I64), ints([0, 0]), tokens, 4, BLOCK_SIZE=4
    )
    assert out.tolist() == [5, 6, 7, -7]
