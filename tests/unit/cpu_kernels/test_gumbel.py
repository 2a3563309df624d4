"""Gumbel-max sampling against the Triton kernel, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_diffusion.engine.cpu import gumbel

from .batches import MAX_REQS, ints
from .harness import F16, F32, I32, I64, check
from .oracle import Oracle

KERNEL = "gpu.sample.gumbel._gumbel_sample_kernel"
BLOCK = 64


def sample_args(
    rng: np.random.Generator,
    num_rows: int,
    vocab_size: int,
    dtype: torch.dtype = F32,
    use_fp64: bool = False,
    temperatures: tuple[float, ...] = (0.0, 0.3, 1.0, 2.5),
) -> list:
    num_blocks = -(-vocab_size // BLOCK)
    return [
        torch.full((num_rows, num_blocks), -7, dtype=I64),
        num_blocks,
        torch.full((num_rows, num_blocks), -7.0, dtype=torch.float64 if use_fp64 else F32),
        num_blocks,
        *[None, 0, 0, None, None, 0],  # no cache of logits
        torch.from_numpy(rng.normal(0, 3, (num_rows, vocab_size)).astype(np.float32)).to(dtype),
        vocab_size,
        ints(rng.integers(0, MAX_REQS, num_rows), I64),
        ints(rng.integers(-(2**63), 2**63 - 1, MAX_REQS, dtype=np.int64), I64),
        ints(rng.integers(0, 2**20, num_rows), I64),
        torch.tensor(rng.choice(temperatures, MAX_REQS), dtype=F32),
        vocab_size,
    ]


def launch(oracle: Oracle, args: list, **changes: bool) -> None:
    constexprs = {
        "IS_DRAFTING": False,
        "APPLY_TEMPERATURE": True,
        "USE_FP64": False,
        "PER_TOKEN_COL": False,
    }
    check(oracle, KERNEL, tuple(args[0].shape), args, BLOCK_SIZE=BLOCK, **constexprs | changes)


@pytest.mark.parametrize("num_rows", [0, 1, 5])
@pytest.mark.parametrize("vocab_size", [5, 64, 300])
@pytest.mark.parametrize("use_fp64", [False, True])
@pytest.mark.parametrize("is_drafting", [False, True])
def test_samples(
    oracle: Oracle,
    rng: np.random.Generator,
    num_rows: int,
    vocab_size: int,
    use_fp64: bool,
    is_drafting: bool,
) -> None:
    args = sample_args(rng, num_rows, vocab_size, use_fp64=use_fp64)
    launch(oracle, args, USE_FP64=use_fp64, IS_DRAFTING=is_drafting)


@pytest.mark.parametrize("temperatures", [(0.0,), (0.7,)])
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("apply_temperature", [False, True])
def test_all_greedy_or_all_sampled(
    oracle: Oracle,
    rng: np.random.Generator,
    temperatures: tuple[float, ...],
    dtype: torch.dtype,
    apply_temperature: bool,
) -> None:
    args = sample_args(rng, 3, 200, dtype, temperatures=temperatures)
    launch(oracle, args, APPLY_TEMPERATURE=apply_temperature)


def test_rows_in_several_groups(
    oracle: Oracle, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gumbel, "_TILE", 3 * 128)
    launch(oracle, sample_args(rng, 11, 100))


def test_dummy_rows_ties_and_masked_blocks(oracle: Oracle, rng: np.random.Generator) -> None:
    args = sample_args(rng, 4, 200)
    args[10][:, :100] = -torch.inf  # a block without any token
    args[10][1:3, 100:] = 1.5
    args[12][1] = -1  # a dummy request samples greedily
    launch(oracle, args)


@pytest.mark.parametrize("per_token", [False, True])
def test_cache_of_logits(oracle: Oracle, rng: np.random.Generator, per_token: bool) -> None:
    args = sample_args(rng, 5, 100)
    args[12] = ints(rng.permutation(MAX_REQS)[:5], I64)
    args[12][2] = -1
    cache = torch.full((MAX_REQS, 3, 104), -7.0)
    column = ints(rng.integers(0, 3, 5) if per_token else 2, I32)
    source = args[10] + 1
    args[4:10] = [cache, cache.stride(0), cache.stride(1), column, source, source.stride(0)]
    launch(oracle, args, PER_TOKEN_COL=per_token)
