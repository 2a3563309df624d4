"""Where a block ends and when it is finished, position by position.

Shape suffixes: B requests in the step, L canvas length, E stop ids a request.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vllm_diffusion.denoise.converge import first_stop, first_true, num_settled


def settled(tokens: list[int], masked: list[bool], end: int, stop: list[int]) -> int:
    """The rule for one block, in one call."""
    num_B = num_settled(
        torch.tensor([tokens]), torch.tensor([masked]), torch.tensor([end]), torch.tensor([stop])
    )
    return int(num_B)


@pytest.mark.parametrize(
    ("masked", "end", "stop", "expected"),
    [
        ([0, 0, 0, 0], 4, [-1], 4),
        ([0, 0, 0, 1], 4, [-1], 0),
        ([1, 0, 0, 0], 4, [-1], 0),
        ([0, 0, 0, 1], 3, [-1], 3),  # what lies behind the end need not be denoised
        ([0, 0, 1, 1], 2, [-1], 2),
        ([0, 1, 0, 0], 2, [-1], 0),
        ([0, 0, 0, 0], 1, [-1], 1),
        ([0, 0, 1, 1], 4, [6], 2),  # a stop token, itself included
        ([1, 0, 1, 1], 4, [6], 0),  # something before it is open still
        ([0, 1, 1, 1], 4, [6], 0),  # not accepted: no stop yet
        ([0, 0, 0, 0], 4, [8, 7], 3),  # the first of several
        ([0, 0, 0, 1], 4, [7, 5], 1),
        ([0, 0, 1, 1], 2, [7], 2),  # the end comes first
        ([0, 0, 0, 0], 3, [8], 3),
        ([0, 0, 0, 0], 4, [8], 4),
    ],
)
def test_where_a_block_ends(masked: list[int], end: int, stop: list[int], expected: int) -> None:
    assert settled([5, 6, 7, 8], [bool(m) for m in masked], end, stop) == expected


def by_walking(tokens: list[int], masked: list[bool], end: int, stop: list[int]) -> int:
    for position in range(end):
        if masked[position]:
            return 0
        if tokens[position] in stop:
            return position + 1
    return end


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=12),
    end=st.integers(1, 12),
    stop=st.lists(st.integers(-1, 5), min_size=1, max_size=3),
)
def test_what_is_settled_is_what_a_walk_reaches(
    rows: list[tuple[int, bool]], end: int, stop: list[int]
) -> None:
    tokens, masked = map(list, zip(*rows, strict=True))
    end = min(end, len(rows))
    assert settled(tokens, masked, end, stop) == by_walking(tokens, masked, end, stop)


@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=6, max_size=6),
        min_size=1,
        max_size=4,
    ),
    stop=st.lists(st.integers(-1, 5), min_size=2, max_size=2),
)
def test_the_first_of_each_request(rows: list[list[tuple[int, bool]]], stop: list[int]) -> None:
    tokens = [[token for token, _ in row] for row in rows]
    is_true = [[flag for _, flag in row] for row in rows]
    assert first_true(torch.tensor(is_true)).tolist() == [
        next((i for i, flag in enumerate(row) if flag), 6) for row in is_true
    ]
    stop_ids_BE = torch.tensor([stop] * len(rows))
    assert first_stop(torch.tensor(tokens), torch.tensor(is_true), stop_ids_BE).tolist() == [
        next((i for i, (token, flag) in enumerate(row) if flag and token in stop), 6)
        for row in rows
    ]
