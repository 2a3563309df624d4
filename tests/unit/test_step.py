"""The denoising step: what every policy is held to, whatever the batch.

Shape suffixes: B requests in the step, L canvas length.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.denoise_inputs import (
    POLICY_NAMES,
    params_of,
    random_candidates,
    random_step,
)
from vllm_diffusion.denoise.sample import Candidates
from vllm_diffusion.denoise.step import StepResult, denoise, num_settled

seeds = st.integers(0, 2**31)
nums = st.integers(1, 9)
lengths = st.sampled_from([1, 2, 4, 6, 8, 16, 32])


def assert_same(result: StepResult, expected: StepResult) -> None:
    for name in ("tokens_BL", "masked_BL", "num_emitted_B"):
        assert torch.equal(getattr(result, name), getattr(expected, name)), name


@given(seed=seeds, num=nums, length=lengths)
def test_settled_positions_never_change(seed: int, num: int, length: int) -> None:
    step = random_step(seed, num, length)
    result = step.run()
    exists_BL = torch.arange(length) < step.params.width_B[:, None]
    settled_BL = ~step.masked_BL | ~exists_BL
    assert torch.equal(result.tokens_BL[settled_BL], step.tokens_BL[settled_BL])
    assert not result.masked_BL[settled_BL].any()
    accepted_BL = step.masked_BL & exists_BL & ~result.masked_BL
    assert torch.equal(result.tokens_BL[accepted_BL], step.candidates.token_BL[accepted_BL])
    waiting_BL = result.masked_BL
    assert torch.equal(result.tokens_BL[waiting_BL], step.tokens_BL[waiting_BL])


@given(seed=seeds, num=nums, length=lengths)
def test_every_unfinished_canvas_accepts_a_position(seed: int, num: int, length: int) -> None:
    step = random_step(seed, num, length)
    exists_BL = torch.arange(length) < step.params.width_B[:, None]
    before_B = (step.masked_BL & exists_BL).sum(dim=1)
    after_B = step.run().masked_BL.sum(dim=1)
    assert ((after_B < before_B) | (before_B == 0)).all()


@given(seed=seeds, num=nums, length=lengths)
def test_a_block_takes_at_most_its_steps(seed: int, num: int, length: int) -> None:
    """And never more than it has positions."""
    step = random_step(seed, num, length)
    step = type(step)(
        step.tokens_BL,
        torch.ones_like(step.masked_BL),
        torch.zeros_like(step.step_B),
        step.candidates,
        step.params,
    )
    generator = torch.Generator().manual_seed(seed)
    most_B = torch.minimum(step.params.max_steps_B, step.params.width_B)
    is_done_B = torch.zeros(num, dtype=torch.bool)
    for num_steps in range(1, length + 1):
        result = step.run()
        is_done_B |= result.num_emitted_B > 0
        assert is_done_B[most_B <= num_steps].all()
        step = step.after(result, random_candidates(num, length, 12, generator))
    assert is_done_B.all()


@given(seed=seeds, num=nums, length=lengths)
def test_a_request_alone_is_the_request_in_a_batch(seed: int, num: int, length: int) -> None:
    step = random_step(seed, num, length)
    together = step.run()
    for b in range(num):
        alone = step.of(torch.tensor([b])).run()
        assert_same(
            alone,
            StepResult(
                together.tokens_BL[b : b + 1],
                together.masked_BL[b : b + 1],
                together.num_emitted_B[b : b + 1],
            ),
        )


@given(seed=seeds, num=nums, length=lengths, data=st.data())
def test_the_order_of_requests_does_not_matter(
    seed: int, num: int, length: int, data: st.DataObject
) -> None:
    order_B = torch.tensor(data.draw(st.permutations(range(num))))
    step = random_step(seed, num, length)
    result = step.run()
    assert_same(
        step.of(order_B).run(),
        StepResult(
            result.tokens_BL[order_B], result.masked_BL[order_B], result.num_emitted_B[order_B]
        ),
    )


@given(seed=seeds, num=nums, length=lengths)
def test_what_is_emitted_is_settled_and_ends_where_it_should(
    seed: int, num: int, length: int
) -> None:
    step = random_step(seed, num, length)
    result = step.run()
    for b in range(num):
        end = int(torch.minimum(step.params.width_B[b], step.params.limit_B[b]))
        stops = set(step.params.stop_ids_BE[b].tolist())
        tokens = result.tokens_BL[b, :end].tolist()
        masked = result.masked_BL[b, :end].tolist()
        expected = 0
        for n, (token, is_masked) in enumerate(zip(tokens, masked, strict=True), 1):
            if is_masked:
                break
            if token in stops or n == end:
                expected = n
                break
        assert int(result.num_emitted_B[b]) == expected


def settled(tokens: list[int], masked: list[int], *, width=None, limit=None, stop=(-1,)) -> int:
    params = params_of(
        ["confidence"],
        threshold=[0.5],
        max_steps=[4],
        block_length=[len(tokens)],
        width=[width or len(tokens)],
        limit=[limit or 99],
        stop_ids=[list(stop)],
    )
    masked_BL = torch.tensor([masked], dtype=torch.bool)
    return int(num_settled(torch.tensor([tokens]), masked_BL, params))


@pytest.mark.parametrize(
    ("masked", "keywords", "expected"),
    [
        ([0, 0, 0, 0], {}, 4),
        ([0, 0, 0, 1], {}, 0),
        ([1, 0, 0, 0], {}, 0),
        ([0, 0, 0, 1], {"width": 3}, 3),  # a first block, pinned by the prompt's tail
        ([0, 0, 1, 1], {"limit": 2}, 2),  # max_tokens inside the block
        ([0, 1, 0, 0], {"limit": 2}, 0),
        ([0, 0, 0, 0], {"limit": 1}, 1),
        ([0, 0, 1, 1], {"limit": 3, "width": 2}, 2),
        ([0, 0, 1, 1], {"stop": (6,)}, 2),  # a stop token, itself included
        ([1, 0, 1, 1], {"stop": (6,)}, 0),  # something before it is open still
        ([0, 1, 1, 1], {"stop": (6,)}, 0),  # not accepted: no stop yet
        ([0, 0, 0, 0], {"stop": (8, 7)}, 3),  # the first of several
        ([0, 0, 0, 1], {"stop": (7, 5)}, 1),
        ([0, 0, 1, 1], {"stop": (7,), "limit": 2}, 2),  # the limit comes first
        ([0, 0, 0, 0], {"stop": (8,), "limit": 3}, 3),
        ([0, 0, 0, 0], {"stop": (8,)}, 4),
    ],
)
def test_where_a_block_ends(masked: list[int], keywords: dict, expected: int) -> None:
    assert settled([5, 6, 7, 8], masked, **keywords) == expected


def test_mixed_policies_in_one_batch() -> None:
    prob_BL = torch.tensor([[0.95, 0.3, 0.6, 0.92]]).repeat(4, 1)
    second_BL = torch.tensor([[0.01, 0.29, 0.1, 0.5]]).repeat(4, 1)
    entropy_BL = torch.tensor([[0.75, 1.0, 0.25, 0.5]]).repeat(4, 1)
    params = params_of(
        ["margin", "static", "entropy", "confidence"],
        threshold=[0.45, 0.0, 0.75, 0.9],
        max_steps=[4, 2, 4, 4],
        block_length=[4] * 4,
    )
    result = denoise(
        torch.zeros(4, 4, dtype=torch.int64),
        torch.ones(4, 4, dtype=torch.bool),
        torch.zeros(4, dtype=torch.int64),
        Candidates(torch.full((4, 4), 7), prob_BL, second_BL, entropy_BL),
        params,
    )
    assert (~result.masked_BL).int().tolist() == [
        [1, 0, 1, 0],  # margins 0.94 and 0.5
        [1, 0, 0, 1],  # the two most probable
        [0, 0, 1, 1],  # 0.25 + 0.5 nats
        [1, 0, 0, 1],  # above 0.9
    ]


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_the_mask_id_marks_nothing(name: str) -> None:
    """A settled position may hold any id, the mask token's too, and stays settled."""
    mask_id = 3
    result = denoise(
        torch.full((1, 4), mask_id),
        torch.tensor([[False, True, False, True]]),
        torch.zeros(1, dtype=torch.int64),
        Candidates(torch.full((1, 4), 9), *torch.tensor([[[0.99] * 4], [[0.0] * 4], [[0.0] * 4]])),
        params_of([name], threshold=[0.0], max_steps=[1], block_length=[4]),
    )
    assert result.tokens_BL.tolist() == [[mask_id, 9, mask_id, 9]]
    assert result.num_emitted_B.tolist() == [4]
