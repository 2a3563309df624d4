"""Sub-blocks: a block is denoised in pieces from left to right.

Shape suffixes: B requests in the step, L canvas length.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.denoise_inputs import candidates_of, params_of, random_candidates, random_step
from vllm_diffusion.denoise.accept import first_sub_block
from vllm_diffusion.denoise.policies import POLICY_INDEX
from vllm_diffusion.denoise.rules import SubBlocks
from vllm_diffusion.denoise.step import denoise

seeds = st.integers(0, 2**31)
nums = st.integers(1, 9)
lengths = st.sampled_from([1, 2, 4, 6, 8, 16, 32])


@pytest.mark.parametrize(
    ("open_", "offset", "sub_block", "expected"),
    [
        ([1, 1, 1, 1, 1, 1, 1, 1], 0, 4, [0, 1, 2, 3]),
        ([0, 0, 0, 0, 1, 1, 1, 1], 0, 4, [4, 5, 6, 7]),
        ([0, 0, 0, 1, 1, 1, 1, 1], 0, 4, [3]),
        ([0, 1, 0, 1, 1, 0, 0, 0], 0, 2, [1]),
        ([1, 1, 1, 1, 1, 1, 1, 1], 0, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        # Three pinned tokens of the prompt: the first piece has one position left.
        ([1, 1, 1, 1, 1, 0, 0, 0], 3, 4, [0]),
        ([0, 1, 1, 1, 1, 0, 0, 0], 3, 4, [1, 2, 3, 4]),
        # Five pinned tokens: no position of the first piece is left.
        ([1, 1, 1, 0, 0, 0, 0, 0], 5, 4, [0, 1, 2]),
        ([0, 0, 0, 0, 0, 0, 0, 0], 0, 4, []),
    ],
)
def test_the_leftmost_piece_with_a_mask(
    open_: list[int], offset: int, sub_block: int, expected: list[int]
) -> None:
    kept_BL = first_sub_block(
        torch.tensor([open_], dtype=torch.bool), torch.tensor([offset]), torch.tensor([sub_block])
    )
    assert kept_BL[0].nonzero()[:, 0].tolist() == expected


@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.booleans(), min_size=12, max_size=12),
            st.integers(0, 11),
            st.sampled_from([1, 2, 3, 4, 6, 12]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_piece_counts_from_the_start_of_its_block(
    rows: list[tuple[list[bool], int, int]],
) -> None:
    open_, offset, sub_block = zip(*rows, strict=True)
    kept_BL = first_sub_block(torch.tensor(open_), torch.tensor(offset), torch.tensor(sub_block))
    for (flags, first, length), kept in zip(rows, kept_BL.tolist(), strict=True):
        pieces = [(first + i) // length for i, flag in enumerate(flags) if flag]
        expected = [flag and (first + i) // length == min(pieces) for i, flag in enumerate(flags)]
        assert kept == expected


@given(seed=seeds, num=nums, length=lengths)
def test_a_piece_waits_for_those_before_it(seed: int, num: int, length: int) -> None:
    """No step touches two pieces, and a block takes at most a step a position."""
    step = random_step(seed, num, length, plain=True).fresh()
    generator = torch.Generator().manual_seed(seed)
    sub_block_B = torch.gcd(
        step.params.block_length_B, torch.randint(1, length + 1, (num,), generator=generator)
    )
    # The clock of ``origin`` is about whole blocks.
    policy_B = torch.where(step.params.policy_B == POLICY_INDEX["origin"], 0, step.params.policy_B)
    names = tuple(name for name in ("confidence", *step.params.policies) if name != "origin")
    step = replace(
        step,
        params=replace(
            step.params,
            policies=tuple(dict.fromkeys(names)),
            policy_B=policy_B,
        ),
        sub_blocks=SubBlocks(sub_block_B),
    )
    offset_B = step.params.block_length_B - step.params.width_B
    piece_BL = (offset_B[:, None] + torch.arange(length)) // sub_block_B[:, None]
    exists_BL = torch.arange(length) < step.params.width_B[:, None]
    reached_B = torch.zeros(num, dtype=torch.int64)
    for _ in range(length):
        before_BL = step.masked_BL & exists_BL
        result = step.run()
        accepted_BL = before_BL & ~result.masked_BL
        for b in range(num):
            if not before_BL[b].any():
                continue
            (touched,) = set(piece_BL[b][accepted_BL[b]].tolist())
            assert touched == int(piece_BL[b][before_BL[b]].min()) >= int(reached_B[b])
            reached_B[b] = touched
        step = step.after(result, random_candidates(num, length, 12, generator))
    assert not (step.masked_BL & exists_BL).any()


def test_all_that_is_sure_is_taken_within_the_piece_alone() -> None:
    """A threshold looks at the piece; so does the best position, which is always taken."""
    prob_BL = [[0.2, 0.95, 0.4, 0.92, 0.99, 0.99, 0.99, 0.99], [0.2, 0.3, 0.1, 0.25] + [0.9] * 4]
    result = denoise(
        torch.zeros(2, 8, dtype=torch.int64),
        torch.ones(2, 8, dtype=torch.bool),
        torch.zeros(2, dtype=torch.int64),
        candidates_of([[7] * 8] * 2, prob_BL),
        params_of(
            ["confidence"] * 2,
            threshold=[0.9] * 2,
            max_steps=[8] * 2,
            block_length=[8] * 2,
        ),
        [SubBlocks(torch.tensor([4, 4]))],
    )
    assert result.tokens_BL.tolist() == [[0, 7, 0, 7, 0, 0, 0, 0], [0, 7, 0, 0, 0, 0, 0, 0]]
    assert result.num_emitted_B.tolist() == [0, 0]
