"""Token-to-token edits against a loop over positions, and what they mean for a block's end.

Shape suffixes: B requests in the step, L canvas length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.denoise_inputs import (
    Step,
    candidates_of,
    ints,
    params_of,
    random_candidates,
    random_step,
)
from vllm_diffusion.denoise.edit import EditParams
from vllm_diffusion.denoise.sample import Candidates

seeds = st.integers(0, 2**31)
nums = st.integers(1, 9)
lengths = st.sampled_from([1, 2, 4, 6, 8, 16, 32])


def editing(threshold: Sequence[float], max_post_steps: Sequence[int]) -> EditParams:
    return EditParams(
        threshold_B=torch.tensor(threshold, dtype=torch.float32),
        max_post_steps_B=ints(max_post_steps),
        post_step_B=ints([0] * len(threshold)),
    )


def step_of(
    tokens: Sequence[int],
    masked: Sequence[int],
    *,
    token: Sequence[int],
    prob: Sequence[float],
    edit_threshold: float = 0.5,
    max_post_steps: int = 4,
    max_steps: int | None = None,
    threshold: float = 0.75,
    **keywords: Sequence[int],
) -> Step:
    """One request that edits, by the rule of LLaDA2.1."""
    length = len(tokens)
    return Step(
        torch.tensor([tokens]),
        torch.tensor([masked], dtype=torch.bool),
        ints([0]),
        candidates_of([token], [prob]),
        params_of(
            ["confidence"],
            threshold=[threshold],
            max_steps=[max_steps or length],
            block_length=[length],
            **keywords,
        ),
        edits=editing([edit_threshold], [max_post_steps]),
    )


def joint_threshold(
    tokens: list[int],
    masked: list[bool],
    candidates: list[tuple[int, float]],
    *,
    threshold: float,
    edit_threshold: float,
    floor: int,
) -> tuple[list[int], list[bool], bool]:
    """LLaDA2.1's loop body: fill masks, edit what was no mask; (tokens, masked, has edited)."""
    surest = sorted((i for i, m in enumerate(masked) if m), key=lambda i: (-candidates[i][1], i))
    after, still_masked, has_edited = list(tokens), list(masked), False
    for i, (token, prob) in enumerate(candidates):
        if masked[i]:
            if prob > threshold or i in surest[:floor]:
                after[i], still_masked[i] = token, False
        elif token != tokens[i] and prob > edit_threshold:
            after[i], has_edited = token, True
    return after, still_masked, has_edited


grid = st.integers(0, 8).map(lambda eighths: eighths / 8)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 3), grid),
        min_size=1,
        max_size=12,
    ),
    threshold=grid,
    edit_threshold=st.integers(0, 7).map(lambda eighths: eighths / 8),
    max_steps=st.integers(1, 12),
    max_post_steps=st.integers(0, 3),
    post_step=st.integers(0, 3),
    limit=st.integers(1, 14),
    stop=st.integers(-1, 3),
)
def test_a_step_is_the_joint_threshold(
    rows: list[tuple[int, bool, int, float]],
    threshold: float,
    edit_threshold: float,
    max_steps: int,
    max_post_steps: int,
    post_step: int,
    limit: int,
    stop: int,
) -> None:
    tokens, masked, token, prob = map(list, zip(*rows, strict=True))
    step = step_of(
        tokens,
        masked,
        token=token,
        prob=prob,
        threshold=threshold,
        edit_threshold=edit_threshold,
        max_steps=max_steps,
        max_post_steps=max_post_steps,
        limit=[limit],
        stop_ids=[[stop]],
    )
    assert step.edits is not None
    step.edits.post_step_B.fill_(post_step)
    result = step.run()

    after, still_masked, has_edited = joint_threshold(
        tokens,
        masked,
        list(zip(token, prob, strict=True)),
        threshold=threshold,
        edit_threshold=edit_threshold,
        floor=max(1, len(rows) // max_steps + (len(rows) % max_steps > 0)),
    )
    assert result.tokens_BL.tolist() == [after]
    assert result.masked_BL.tolist() == [still_masked]
    post_step += not any(masked)
    assert result.post_step_B is not None and result.post_step_B.tolist() == [post_step]
    is_stable = not any(masked) and not has_edited
    is_spent = not any(still_masked) and post_step >= max_post_steps
    end = min(len(rows), limit)
    if stop in after[:end]:
        end = after.index(stop) + 1
    assert result.num_emitted_B.tolist() == [end if is_stable or is_spent else 0]


@given(seed=seeds, num=nums, length=lengths)
def test_what_does_not_exist_is_not_edited(seed: int, num: int, length: int) -> None:
    """Behind the block's end candidates may be ever so sure; so may they be of masks."""
    step = random_step(seed, num, length)
    assert step.edits is not None
    step.edits.threshold_B.fill_(0.0)
    result = step.run()
    outside_BL = torch.arange(length) >= step.params.width_B[:, None]
    assert torch.equal(result.tokens_BL[outside_BL], step.tokens_BL[outside_BL])
    waiting_BL = result.masked_BL
    assert torch.equal(result.tokens_BL[waiting_BL], step.tokens_BL[waiting_BL])


@given(seed=seeds, num=nums, length=lengths)
def test_a_neighbour_that_edits_changes_nothing(seed: int, num: int, length: int) -> None:
    """Rows without edits, beside rows with them, are decided as if nobody edited."""
    step = random_step(seed, num, length)
    result = step.run()
    assert step.edits is not None
    is_plain_B = step.edits.threshold_B.isinf()
    for b in is_plain_B.nonzero()[:, 0].tolist():
        alone = step.alone(b)
        assert alone.edits is None
        expected = alone.run()
        assert expected.post_step_B is None
        assert torch.equal(result.tokens_BL[b], expected.tokens_BL[0])
        assert torch.equal(result.masked_BL[b], expected.masked_BL[0])
        assert int(result.num_emitted_B[b]) == int(expected.num_emitted_B[0])


@given(data=st.data(), length=st.integers(1, 12), max_steps=st.integers(1, 12))
def test_wrong_tokens_are_repaired(data: st.DataObject, length: int, max_steps: int) -> None:
    """A model that is right and sure rids the block of every wrong token before it is emitted."""
    right = data.draw(st.lists(st.integers(0, 9), min_size=length, max_size=length))
    tokens = data.draw(st.lists(st.integers(0, 9), min_size=length, max_size=length))
    masked = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    prob = data.draw(st.lists(st.floats(0.625, 1, width=32), min_size=length, max_size=length))
    step = step_of(tokens, masked, token=right, prob=prob, edit_threshold=0.5, max_steps=max_steps)
    num_forwards = 0
    emitted = 0
    while not emitted:
        result = step.run()
        num_forwards += 1
        emitted = int(result.num_emitted_B[0])
        step = step.after(result, step.candidates)
    assert emitted == length
    assert result.tokens_BL[0].tolist() == right
    # Edits go along with the masks; a last forward sees that nothing is left to do.
    is_clean = not any(masked) and tokens == right
    assert num_forwards <= sum(masked) + 1 + (not any(masked) and not is_clean)


def test_a_sure_model_repairs_while_it_fills() -> None:
    tokens, masked = [1, 5, 3, 0], [0, 0, 0, 1]
    step = step_of(tokens, masked, token=[1, 2, 3, 4], prob=[0.9] * 4)
    result = step.run()
    assert result.tokens_BL.tolist() == [[1, 2, 3, 4]]
    assert not result.masked_BL.any()
    # An edit may still follow from what has just been filled in.
    assert result.num_emitted_B.tolist() == [0]
    result = step.after(result, step.candidates).run()
    assert result.num_emitted_B.tolist() == [4]


@pytest.mark.parametrize(
    ("prob", "edit_threshold", "is_edited"),
    [
        (0.625, 0.5, True),
        (0.5, 0.5, False),  # strict
        (0.125, 0.0, True),  # Speed mode: any other candidate
        (1.0, math.inf, False),
        (math.nan, 0.0, False),
    ],
)
def test_how_sure_an_edit_must_be(prob: float, edit_threshold: float, is_edited: bool) -> None:
    step = step_of([1, 2], [0, 0], token=[1, 7], prob=[1.0, prob], edit_threshold=edit_threshold)
    assert step.run().tokens_BL.tolist() == [[1, 7 if is_edited else 2]]


@given(
    seed=seeds,
    length=st.integers(1, 12),
    max_steps=st.integers(1, 14),
    max_post_steps=st.integers(0, 5),
    width=st.integers(1, 12),
)
def test_a_model_that_never_settles_runs_out_of_steps(
    seed: int, length: int, max_steps: int, max_post_steps: int, width: int
) -> None:
    """A block ends within the steps for its masks and ``max_post_steps`` forwards."""
    generator = torch.Generator().manual_seed(seed)
    width = min(width, length)
    step = step_of(
        [0] * length,
        [1] * length,
        token=[0] * length,
        prob=[0.0] * length,
        edit_threshold=0.0,
        max_post_steps=max_post_steps,
        max_steps=max_steps,
        threshold=0.875,
        width=[width],
    )
    num_mask_steps = num_forwards = emitted = 0
    while not emitted:
        # Each forward wants another token everywhere.
        answer = random_candidates(1, length, 1, generator)
        token_BL = torch.full((1, length), num_forwards % 7)
        prob_BL = answer.prob_BL.nan_to_num(0.25)
        step = Step(
            step.tokens_BL,
            step.masked_BL,
            step.step_B,
            Candidates(token_BL, prob_BL, prob_BL, prob_BL),
            step.params,
            edits=step.edits,
        )
        num_mask_steps += bool(step.masked_BL[:, :width].any())
        result = step.run()
        num_forwards += 1
        emitted = int(result.num_emitted_B[0])
        assert not (emitted and result.masked_BL.any())
        step = step.after(result, step.candidates)
    assert emitted == width
    assert num_mask_steps <= min(max_steps, width)
    assert num_forwards == num_mask_steps + max_post_steps
    if max_post_steps:
        assert set(result.tokens_BL[0, :width].tolist()) == {(num_forwards - 1) % 7}


def test_a_stop_token_counts_only_in_a_stable_block() -> None:
    """It is accepted first, found to be wrong later, and the block goes on."""
    stop = 9
    step = step_of([0] * 3, [1] * 3, token=[stop, 5, 6], prob=[0.9, 0.2, 0.1], stop_ids=[[stop]])
    result = step.run()
    assert result.tokens_BL[0, 0] == stop
    assert result.num_emitted_B.tolist() == [0]
    step = step.after(result, candidates_of([[stop, 5, 6]], [[0.9, 0.8, 0.8]]))
    result = step.run()
    assert not result.masked_BL.any()
    assert result.num_emitted_B.tolist() == [0]
    step = step.after(result, candidates_of([[4, 5, 6]], [[0.9] * 3]))
    result = step.run()
    assert result.tokens_BL.tolist() == [[4, 5, 6]]
    assert result.num_emitted_B.tolist() == [0]
    result = step.after(result, step.candidates).run()
    assert result.num_emitted_B.tolist() == [3]


@pytest.mark.parametrize(
    ("keywords", "emitted"),
    [
        ({}, 4),
        ({"stop_ids": [[6]]}, 2),  # the stop token included
        ({"limit": [3]}, 3),
        ({"limit": [3], "stop_ids": [[8]]}, 3),
        ({"limit": [1], "stop_ids": [[6]]}, 1),
        ({"width": [2], "stop_ids": [[7]]}, 2),
    ],
)
def test_where_a_stable_block_ends(keywords: dict[str, list], emitted: int) -> None:
    tokens = [5, 6, 7, 8]
    step = step_of(tokens, [0] * 4, token=tokens, prob=[0.9] * 4, **keywords)
    assert step.run().num_emitted_B.tolist() == [emitted]


def test_masks_behind_the_limit_are_waited_for() -> None:
    """They may still change what is in front of them."""
    step = step_of([5, 6, 0, 0], [0, 0, 1, 1], token=[5, 6, 7, 8], prob=[0.5] * 4, limit=[2])
    assert step.run().num_emitted_B.tolist() == [0]
