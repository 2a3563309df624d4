"""Schedules: how many positions a step accepts at least, against loops over a block's steps."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from vllm_diffusion.denoise.schedule import TIME_END, even_floor, time_floor, transfer_share

END = Fraction(1, 1000)


@given(length=st.integers(1, 64), max_steps=st.integers(1, 80))
def test_the_even_schedule_sums_up_to_the_block(length: int, max_steps: int) -> None:
    """LLaDA's ``get_num_transfer_tokens``: whole shares, the remainder first."""
    step_B = torch.arange(max_steps)
    shares = even_floor(step_B, torch.tensor(length), torch.tensor(max_steps)).tolist()
    if max_steps <= length:
        assert sum(shares) == length
        assert shares == sorted(shares, reverse=True)
        assert max(shares) - min(shares) <= 1
    else:
        assert set(shares) == {1}


def test_time_runs_to_dreams_end() -> None:
    assert float(END) == TIME_END


@given(num_steps=st.integers(1, 2048), data=st.data())
def test_the_share_is_what_time_takes_of_what_is_left(num_steps: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, num_steps + 2))
    share = float(transfer_share(torch.tensor([step]), torch.tensor([num_steps]))[0])
    assert share == pytest.approx(float(exact_share(step, num_steps)), rel=1e-9)
    assert 0 < share <= 1
    assert (share == 1) == (step >= num_steps - 1)


def exact_share(step: int, num_steps: int) -> Fraction:
    """``1 - t[i + 1] / t[i]``; all that is left in the last step."""
    if step >= num_steps - 1:
        return Fraction(1)
    before, after = (1 - (1 - END) * Fraction(i, num_steps) for i in (step, step + 1))
    return 1 - after / before


def literal_loop(num_masked: int, num_steps: int) -> list[tuple[int, int]]:
    """Dream's loop as it is written, in float32: the steps that fill something, and how much."""
    t = torch.linspace(1, 1e-3, num_steps + 1)
    filled = []
    for i in range(num_steps):
        share = 1 - t[i + 1] / t[i]
        is_last = i == num_steps - 1
        num = num_masked if is_last else int(torch.tensor(float(num_masked)) * share)
        if num:
            filled.append((i, num))
        num_masked -= num
    assert num_masked == 0
    return filled


def skipping_loop(num_masked: int, num_steps: int) -> list[tuple[int, int]]:
    """The same by the schedule, which finds the next step that fills something."""
    filled, step_B = [], torch.zeros(1, dtype=torch.int64)
    while num_masked:
        floor_B, step_B = time_floor(step_B, torch.tensor([num_masked]), torch.tensor([num_steps]))
        assert int(floor_B) >= 1
        filled.append((int(step_B), int(floor_B)))
        num_masked -= int(floor_B)
        step_B = step_B + 1
    return filled


@pytest.mark.parametrize("num_masked", range(1, 37))
def test_the_time_schedule_is_dreams_loop_without_its_idle_steps(num_masked: int) -> None:
    for num_steps in range(1, 37):
        assert skipping_loop(num_masked, num_steps) == literal_loop(num_masked, num_steps)


@pytest.mark.parametrize(
    ("num_masked", "num_steps"),
    [
        (64, 256),
        (128, 128),
        (256, 256),
        (256, 512),
        (512, 512),
        (512, 256),
        (768, 768),
        (768, 256),
        (1024, 1024),
        (2048, 512),
        (2048, 768),
    ],
)
def test_the_time_schedule_at_lengths_in_use(num_masked: int, num_steps: int) -> None:
    assert skipping_loop(num_masked, num_steps) == literal_loop(num_masked, num_steps)


@given(num_masked=st.integers(1, 600), num_steps=st.integers(1, 1200), data=st.data())
def test_the_next_step_that_fills_anything(
    num_masked: int, num_steps: int, data: st.DataObject
) -> None:
    """In exact arithmetic, from any step on; border cases are for rounding to decide."""
    step = data.draw(st.integers(0, num_steps + 1))
    expected = min(step, num_steps - 1)
    while int(num_masked * exact_share(expected, num_steps)) == 0:
        expected += 1
    filled = num_masked * exact_share(expected, num_steps)
    # A multiple of 999 among the steps is where products can be whole.
    assume(filled.denominator != 1 or expected == num_steps - 1)
    floor_B, step_B = time_floor(
        torch.tensor([step]), torch.tensor([num_masked]), torch.tensor([num_steps])
    )
    assert (int(step_B), int(floor_B)) == (expected, int(filled))


def test_requests_of_a_batch_have_clocks_of_their_own() -> None:
    step_B, masked_B, steps_B = (
        torch.tensor(x) for x in ([0, 3, 0, 8], [8, 8, 2, 5], [4, 4, 9, 9])
    )
    floor_B, next_B = time_floor(step_B, masked_B, steps_B)
    alone = [
        time_floor(step_B[b : b + 1], masked_B[b : b + 1], steps_B[b : b + 1]) for b in range(4)
    ]
    assert floor_B.tolist() == [int(floor) for floor, _ in alone] == [1, 8, 2, 5]
    assert next_B.tolist() == [int(step) for _, step in alone] == [0, 3, 8, 8]
