"""The denoising step: what every policy is held to, whatever the batch.

Shape suffixes: B requests in the step, L canvas length.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.denoise_inputs import (
    POLICY_NAMES,
    candidates_of,
    params_of,
    random_candidates,
    random_step,
    rows_of,
)
from vllm_diffusion.denoise.policies import POLICY_INDEX
from vllm_diffusion.denoise.rules import Chances, Seeds
from vllm_diffusion.denoise.sample import Candidates
from vllm_diffusion.denoise.step import StepResult, denoise

seeds = st.integers(0, 2**31)
nums = st.integers(1, 9)
lengths = st.sampled_from([1, 2, 4, 6, 8, 16, 32])


def assert_same(result: StepResult, expected: StepResult) -> None:
    for name in ("tokens_BL", "masked_BL", "num_emitted_B", "step_B"):
        assert torch.equal(getattr(result, name), getattr(expected, name)), name
    # Without anybody who edits, nobody counts.
    if result.post_step_B is not None and expected.post_step_B is not None:
        assert torch.equal(result.post_step_B, expected.post_step_B)


@given(seed=seeds, num=nums, length=lengths)
def test_converged_positions_never_change(seed: int, num: int, length: int) -> None:
    """But for the edits that a request has asked for."""
    step = random_step(seed, num, length)
    result = step.run()
    exists_BL = torch.arange(length) < step.params.width_B[:, None]
    settled_BL = ~step.masked_BL | ~exists_BL
    assert not result.masked_BL[settled_BL].any()
    assert step.edits is not None
    edits_B1 = step.edits.threshold_B.isfinite()[:, None]
    fixed_BL = settled_BL & ~(edits_B1 & exists_BL)
    assert torch.equal(result.tokens_BL[fixed_BL], step.tokens_BL[fixed_BL])
    accepted_BL = step.masked_BL & exists_BL & ~result.masked_BL
    assert torch.equal(result.tokens_BL[accepted_BL], step.candidates.token_BL[accepted_BL])
    waiting_BL = result.masked_BL
    assert torch.equal(result.tokens_BL[waiting_BL], step.tokens_BL[waiting_BL])


@given(seed=seeds, num=nums, length=lengths)
def test_every_unfinished_canvas_accepts_a_position(seed: int, num: int, length: int) -> None:
    """Where it may accept any; the policy ``origin`` alone may wait for its clock."""
    step = random_step(seed, num, length)
    position_L = torch.arange(length)
    exists_BL = step.masked_BL & (position_L < step.params.width_B[:, None])
    assert step.seeds is not None
    open_BL = exists_BL & (position_L < step.seeds.num_rows_B[:, None])
    accepted_BL = exists_BL & ~step.run().masked_BL
    may_wait_B = ~open_BL.any(dim=1) | (step.params.policy_B == POLICY_INDEX["origin"])
    assert (accepted_BL.any(dim=1) | may_wait_B).all()


@given(seed=seeds, num=nums, length=lengths)
def test_a_block_takes_at_most_its_steps(seed: int, num: int, length: int) -> None:
    """And never more than it has positions, whatever the policy."""
    step = random_step(seed, num, length, plain=True).fresh()
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
    """Alone it brings nothing along that only its neighbours have asked for."""
    step = random_step(seed, num, length)
    together = step.run()
    for b in range(num):
        assert_same(step.alone(b).run(), rows_of(together, torch.tensor([b])))


@given(seed=seeds, num=nums, length=lengths, data=st.data())
def test_the_order_of_requests_does_not_matter(
    seed: int, num: int, length: int, data: st.DataObject
) -> None:
    order_B = torch.tensor(data.draw(st.permutations(range(num))))
    step = random_step(seed, num, length)
    assert_same(step.of(order_B).run(), rows_of(step.run(), order_B))


@given(seed=seeds, num=nums, length=lengths)
def test_what_is_emitted_is_settled_and_ends_where_it_should(
    seed: int, num: int, length: int
) -> None:
    step = random_step(seed, num, length, plain=True)
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
        candidates_of([[9] * 4], [[0.99] * 4]),
        params_of(
            [name],
            threshold=[0.0],
            max_steps=[1],
            block_length=[4],
        ),
        [Chances(torch.full((1, 4), 0.5))],
    )
    assert result.tokens_BL.tolist() == [[mask_id, 9, mask_id, 9]]
    assert result.num_emitted_B.tolist() == [4]


@given(seed=seeds, num=nums, length=lengths)
def test_a_seed_is_taken_and_nothing_else(seed: int, num: int, length: int) -> None:
    """Where only the first position has logits; whatever the policy thinks of it."""
    step = random_step(seed, num, length)
    rows_B = torch.ones(num, dtype=torch.int64)
    result = replace(step, seeds=Seeds(rows_B, step.params.width_B)).run()
    position_L = torch.arange(length)
    masked_BL = step.masked_BL & (position_L < step.params.width_B[:, None])
    is_seed_B1 = (rows_B < step.params.width_B)[:, None]
    left_BL = torch.where(
        is_seed_B1, masked_BL & (position_L >= rows_B[:, None]), step.run().masked_BL
    )
    assert torch.equal(result.masked_BL, left_BL)


@pytest.mark.parametrize(
    ("keywords", "emitted"),
    [
        ({}, 0),  # the seed alone settles nothing but itself
        ({"limit": [1]}, 1),
        ({"width": [1]}, 1),
        ({"stop_ids": [[9]]}, 1),
        ({"stop_ids": [[8]]}, 0),
    ],
)
def test_a_seed_step_fills_the_first_position(keywords: dict[str, Any], emitted: int) -> None:
    width = keywords.get("width", [4])[0]
    result = denoise(
        torch.zeros(1, 4, dtype=torch.int64),
        torch.ones(1, 4, dtype=torch.bool),
        torch.zeros(1, dtype=torch.int64),
        candidates_of([[9, 8, 8, 8]], [[0.1, 0.99, 0.99, 0.99]]),
        params_of(
            ["confidence"],
            threshold=[0.5],
            max_steps=[1],
            block_length=[4],
            **keywords,
        ),
        [Seeds(torch.tensor([1]), torch.tensor([width]))],
    )
    assert result.tokens_BL.tolist() == [[9, 0, 0, 0]]
    assert result.masked_BL.tolist() == [[0 < i < width for i in range(4)]]
    assert result.num_emitted_B.tolist() == [emitted]
