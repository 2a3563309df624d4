"""Block table gathering and slot mappings against the Triton kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_diffusion.cpu.block_tables import gather_block_tables

from .batches import BATCH_SIZES, MAX_REQS, ints, random_batch
from .harness import I32, I64, check, run_both
from .oracle import POINTERS, Oracle, resolve

STRIDES = [16, 32]


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
@pytest.mark.parametrize("num_groups", [1, 2])
def test_gather(oracle: Oracle, rng: np.random.Generator, num_reqs: int, num_groups: int) -> None:
    strides = STRIDES[:num_groups]
    req = ints(rng.permutation(MAX_REQS)[:num_reqs], I64)
    num_blocks = ints([rng.integers(0, stride + 1, MAX_REQS) for stride in strides])
    args = [
        req,
        (POINTERS, [ints(rng.integers(1, 999, (MAX_REQS, stride))) for stride in strides]),
        (POINTERS, [torch.full((MAX_REQS, stride), -7, dtype=I32) for stride in strides]),
        ints(strides, I64),
        num_blocks,
        MAX_REQS,
        num_reqs,
    ]
    grid = (num_groups, num_reqs)
    name = "gpu.block_table._gather_block_tables_kernel"
    ours, expected = run_both(oracle, name, grid, args, BLOCK_SIZE=8)
    for group, (actual, wanted) in enumerate(zip(ours[2][1], expected[2][1], strict=True)):
        # Past a request's own blocks both leave what is no block of it.
        is_block = torch.arange(strides[group]) < num_blocks[group][req].unsqueeze(1)
        assert torch.equal(actual[:num_reqs][is_block], wanted[:num_reqs][is_block])
        assert (actual[num_reqs:] == -7).all()


def test_gather_with_a_dummy_request() -> None:
    """Triton reads what lies before the tables; the replacement must not."""
    source = torch.arange(8, dtype=I32).view(2, 4)
    target = torch.full((2, 4), -7, dtype=I32)
    pointers = resolve([(POINTERS, [source]), (POINTERS, [target])])
    req, num_blocks = ints([1, -1], I64), ints([[4, 2]])
    gather_block_tables(req, *pointers, ints([4], I64), num_blocks, 2, 2, BLOCK_SIZE=8)
    assert target[0, :2].tolist() == [4, 5]


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
@pytest.mark.parametrize(("cp_size", "interleave"), [(1, 1), (2, 1), (2, 4)])
@pytest.mark.parametrize("with_dummies", [False, True])
def test_slot_mappings(
    oracle: Oracle,
    rng: np.random.Generator,
    num_reqs: int,
    cp_size: int,
    interleave: int,
    with_dummies: bool,
) -> None:
    batch = random_batch(rng, num_reqs)
    idx_mapping = batch.idx_mapping
    if with_dummies:
        idx_mapping[1::2] = -1
    block_sizes = [8, 12, 4]
    strides = [16, 16, 32]
    padded = batch.total + 5
    args = [
        padded,
        idx_mapping,
        batch.query_start_loc,
        ints(rng.integers(0, 96, padded), I64),
        (POINTERS, [ints(rng.integers(1, 999, (MAX_REQS, stride))) for stride in strides]),
        ints(strides, I64),
        ints(block_sizes),
        torch.tensor([True, False, True]),
        torch.tensor([True, True, False]),
        torch.full((3, padded), -7, dtype=I64),
        padded,
        cp_size - 1,
    ]
    check(
        oracle,
        "gpu.block_table._compute_slot_mappings_kernel",
        (3, num_reqs + 1),
        args,
        CP_SIZE=cp_size,
        CP_INTERLEAVE=interleave,
        PAD_ID=-1,
        TRITON_BLOCK_SIZE=8,
    )
