"""Thoughts end within their tokens, whatever is accepted in whatever order."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_frontier import MASK, STOP, TEXTS, WORDS, ListMatcher, fill_up, thoughts
from vllm_diffusion.structured.budget import (
    Budget,
    BudgetMatcher,
    FreeMatcher,
    Markers,
    ThinkingCanvas,
)
from vllm_diffusion.structured.matcher import first_allowed

START, END = 7, 8
SINGLE = Markers(start=(START,), end=(END,), forced=(END,))
LONG = Markers(start=(START, START), end=(6, END), forced=(5, 6, END))


def canvas_of(matcher: BudgetMatcher, num_left: int) -> ThinkingCanvas:
    return ThinkingCanvas(
        matcher=matcher,
        bits_W=np.zeros(WORDS, dtype=np.uint32),
        mask_id=MASK,
        block_length=4,
        num_left=num_left,
        known_end=None,
    )


def free(budget: int, is_thinking: bool, markers: Markers = SINGLE) -> BudgetMatcher:
    return BudgetMatcher(FreeMatcher(), Budget(markers, budget, is_thinking))


def check(text: list[int], budget: int, is_thinking: bool) -> None:
    """A second account of the rule, for markers of one token."""
    for token in text:
        assert not is_thinking or budget > 0 or token == END
        if is_thinking and token == END:
            is_thinking = False
        elif is_thinking:
            budget -= 1
        elif token == START:
            is_thinking = True


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 20), st.booleans(), st.integers(1, 40), st.integers(0, 2**32))
def test_thoughts_end_within_their_budget(
    budget: int, is_thinking: bool, num_left: int, seed: int
) -> None:
    text, num_steps = fill_up(canvas_of(free(budget, is_thinking), num_left), random.Random(seed))
    assert len(text) == num_left or text[-1] == STOP
    check(text, budget, is_thinking)
    # Each forced end takes back what is behind it in its block of 4.
    assert num_steps <= len(text) + 4 + 4 * text.count(END)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(0, 9), st.integers(0, 2**32))
def test_a_grammar_follows_the_end(texts: list[tuple[int, ...]], budget: int, seed: int) -> None:
    inner = thoughts(ListMatcher(texts), (END,))
    matcher = BudgetMatcher(inner, Budget(SINGLE, budget, is_thinking=True, is_once=True))
    text, _ = fill_up(canvas_of(matcher, 100), random.Random(seed))
    assert text[-1] == STOP
    if END in text:  # else the thoughts have ended the text
        end = text.index(END)
        assert end <= budget
        assert tuple(text[end + 1 : -1]) in texts
    else:
        assert len(text) <= budget


def test_what_was_guessed_as_a_thought_is_masked_again() -> None:
    canvas = canvas_of(free(1, True), 100)
    tokens, masked = [1, 2, 3, 4], [False] * 4
    canvas.follow(tokens, masked, 4)
    assert tokens == [1, END, MASK, MASK]
    assert masked == [False, False, True, True]
    assert canvas.frontier == 2
    assert len(first_allowed(canvas.bits_W, 99)) == 32


def test_an_end_of_its_own_keeps_what_is_behind_it() -> None:
    canvas = canvas_of(free(2, True), 100)
    tokens, masked = [1, END, 3, 4], [False] * 4
    canvas.follow(tokens, masked, 4)
    assert tokens == [1, END, 3, 4]
    assert canvas.frontier == 4


def test_a_forced_end_goes_over_the_border_of_blocks() -> None:
    canvas = canvas_of(free(3, True, LONG), 100)
    tokens, masked = [1, 2, 3, 4], [False] * 4
    canvas.follow(tokens, masked, 4)
    assert tokens == [1, 2, 3, 5]
    canvas.emitted(4)
    tokens, masked = [MASK] * 4, [True] * 4
    canvas.follow(tokens, masked, 4)
    assert tokens == [6, END, MASK, MASK]


def accepted(matcher: BudgetMatcher, *tokens: int) -> list[bool]:
    return [matcher.accept(token) for token in tokens]


def must_come(matcher: BudgetMatcher) -> list[int]:
    bits = np.zeros(WORDS, dtype=np.uint32)
    matcher.fill(bits)
    found = first_allowed(bits, 99)
    return found if len(found) == 1 else []


def test_markers_of_several_tokens() -> None:
    matcher = free(2, False, LONG)
    assert all(accepted(matcher, START, 1, 1, 1, START, START, 2, 3))
    assert must_come(matcher) == [5]
    fork = matcher.fork()
    assert accepted(matcher, 6) == [False]
    assert all(accepted(matcher, 5, 6, END))
    assert must_come(matcher) == []
    assert must_come(fork) == [5]
    # The budget is the output's: nothing is left for other thoughts.
    assert all(accepted(matcher, 1, START, START))
    assert must_come(matcher) == [5]


def test_an_end_that_has_begun_is_gone_on_with() -> None:
    matcher = free(2, True, LONG)
    assert all(accepted(matcher, 1, 5))
    assert must_come(matcher) == [6]
    assert all(accepted(matcher, 6, END))
    assert must_come(matcher) == []


def test_a_phrase_without_the_models_own_marker_comes_once() -> None:
    matcher = free(1, True, Markers(start=(START,), end=(END,), forced=(5, 5)))
    assert all(accepted(matcher, 1, 5, 5, 3, 3))
    assert must_come(matcher) == []


def test_thoughts_may_end_by_what_only_the_parser_knows() -> None:
    """Of a tool call, say; the grammar behind it is left alone."""
    inner = thoughts(ListMatcher([(1, 2)]), (4,))
    matcher = BudgetMatcher(inner, Budget(SINGLE, 2, is_thinking=True, is_once=True))
    assert all(accepted(matcher, 3, 4, 1, 2, STOP))
    assert matcher.is_done


@pytest.mark.parametrize(
    ("prompt", "thinks", "has_reasoned"),
    [
        ([], False, False),
        ([1, START, START, 2], True, False),
        ([START, START, 2, 6, END], False, True),
        ([START, START, 6, END, START, START], True, False),
        ([START, END], False, False),
    ],
)
def test_prompts(prompt: list[int], thinks: bool, has_reasoned: bool) -> None:
    assert LONG.thinks(prompt) == thinks
    assert LONG.has_reasoned(prompt) == has_reasoned
