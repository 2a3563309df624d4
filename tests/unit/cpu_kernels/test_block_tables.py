"""Block table gathering and slot mappings against the Triton kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_diffusion.cpu.block_tables import gather_and_mask_block_tables, gather_block_tables
from vllm_diffusion.cpu.registry import WORKER

from .batches import BATCH_SIZES, MAX_REQS, ints, random_batch
from .harness import I32, I64, check, run_both
from .oracle import POINTERS, Oracle, parameters, resolve

GATHER = "gpu.block_table._gather_block_tables_kernel"
STRIDES = [16, 32]
BLOCK_SIZES = [8, 4]
REACHES = [0, 13]
"""Of the groups' sliding windows; 0 is a group without one."""


def gather_arguments(
    rng: np.random.Generator, num_reqs: int, strides: list[int], num_blocks: torch.Tensor
) -> list[object]:
    """Those that every version of the kernel has; a gathered table starts as -7."""
    return [
        ints(rng.permutation(MAX_REQS)[:num_reqs], I64),
        (POINTERS, [ints(rng.integers(1, 999, (MAX_REQS, stride))) for stride in strides]),
        (POINTERS, [torch.full((MAX_REQS, stride), -7, dtype=I32) for stride in strides]),
        ints(strides, I64),
        num_blocks,
        MAX_REQS,
        num_reqs,
    ]


def window_arguments(rng: np.random.Generator, num_groups: int) -> list[object]:
    """Those that it has since 0.33."""
    return [
        ints(rng.integers(0, 96, MAX_REQS)),
        ints(REACHES[:num_groups]),
        ints(BLOCK_SIZES[:num_groups]),
    ]


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
@pytest.mark.parametrize("num_groups", [1, 2])
@pytest.mark.parametrize("has_windows", [False, True])
def test_gather(
    oracle: Oracle, rng: np.random.Generator, num_reqs: int, num_groups: int, has_windows: bool
) -> None:
    knows_windows = "MASK_SLIDING_WINDOW" in parameters(WORKER + GATHER)
    if has_windows and not knows_windows:
        pytest.skip("this vLLM's kernel knows no sliding windows")
    strides = STRIDES[:num_groups]
    num_blocks = ints([rng.integers(0, stride + 1, MAX_REQS) for stride in strides])
    args = gather_arguments(rng, num_reqs, strides, num_blocks)
    constexprs: dict[str, object] = {"BLOCK_SIZE": 8}
    if knows_windows:
        args += window_arguments(rng, num_groups)
        constexprs["MASK_SLIDING_WINDOW"] = has_windows
    ours, expected = run_both(oracle, GATHER, (num_groups, num_reqs), args, **constexprs)
    for group, (actual, wanted) in enumerate(zip(ours[2][1], expected[2][1], strict=True)):
        # Past a request's own blocks both leave what is no block of it.
        is_block = torch.arange(strides[group]) < num_blocks[group][args[0]].unsqueeze(1)
        assert torch.equal(actual[:num_reqs][is_block], wanted[:num_reqs][is_block])
        assert (actual[num_reqs:] == -7).all()


@pytest.mark.parametrize("num_reqs", BATCH_SIZES)
@pytest.mark.parametrize("has_windows", [False, True])
def test_gather_against_loops(rng: np.random.Generator, num_reqs: int, has_windows: bool) -> None:
    """The kernel as it is since 0.33, whichever vLLM is installed."""
    num_blocks = ints([rng.integers(0, stride + 1, MAX_REQS) for stride in STRIDES])
    args = gather_arguments(rng, num_reqs, STRIDES, num_blocks)
    first_pos, reaches, block_sizes = window_arguments(rng, 2)
    gather_and_mask_block_tables(
        *resolve([*args, first_pos, reaches, block_sizes]),
        MASK_SLIDING_WINDOW=has_windows,
        BLOCK_SIZE=8,
    )
    num_null = 0
    for group, (source, target) in enumerate(zip(args[1][1], args[2][1], strict=True)):
        for row, req in enumerate(args[0].tolist()):
            for place in range(int(num_blocks[group, req])):
                end = (place + 1) * BLOCK_SIZES[group]
                is_below = end <= int(first_pos[req]) - REACHES[group]
                is_null = has_windows and REACHES[group] > 0 and is_below
                num_null += is_null
                assert target[row, place] == (0 if is_null else source[req, place])
        assert (target[num_reqs:] == -7).all()
    # A single request may lie wholly within the window.
    assert num_reqs <= 1 or (num_null > 0) == has_windows


def test_gather_with_a_dummy_request() -> None:
    """Triton reads what lies before the tables; the replacement must not."""
    source = torch.arange(8, dtype=I32).view(2, 4)
    target = torch.full((2, 4), -7, dtype=I32)
    pointers = resolve([(POINTERS, [source]), (POINTERS, [target])])
    req, num_blocks = ints([1, -1], I64), ints([[4, 2]])
    args = (req, *pointers, ints([4], I64), num_blocks, 2, 2)
    gather_block_tables(*args, BLOCK_SIZE=8)
    assert target[0, :2].tolist() == [4, 5]
    windows = (ints([0, 9]), ints([1]), ints([8]))
    gather_and_mask_block_tables(*args, *windows, MASK_SLIDING_WINDOW=True, BLOCK_SIZE=8)
    assert target[0, :2].tolist() == [0, 5]


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
