"""A canvas is held to its grammar, whatever is accepted in whatever order."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_diffusion.structured.frontier import ConstrainedCanvas
from vllm_diffusion.structured.mask import mask_rows
from vllm_diffusion.structured.matcher import (
    Bits,
    DeadEndError,
    first_allowed,
    is_allowed,
    packed,
    set_bit,
)
from vllm_diffusion.structured.reasoning import ReasoningMatcher

STOP, MASK, WORDS = 0, 9, 1


class ListMatcher:
    """The language of some token sequences, a stop token behind each."""

    def __init__(self, texts: list[tuple[int, ...]], at: tuple[int, ...] = ()) -> None:
        self.texts, self.at = texts, at

    @property
    def is_done(self) -> bool:
        return self.at[-1:] == (STOP,)

    def rest(self) -> list[tuple[int, ...]]:
        """What completes the text, stop token included."""
        size = len(self.at)
        return [(*text[size:], STOP) for text in self.texts if text[:size] == self.at]

    def following(self) -> set[int]:
        return {text[0] for text in self.rest()}

    def accept(self, token: int) -> bool:
        if self.is_done or token not in self.following():
            return False
        self.at = (*self.at, token)
        return True

    def fill(self, bits_W: Bits) -> None:
        bits_W[:] = sum(1 << token for token in self.following())

    def forced(self) -> list[int]:
        common: list[int] = []
        for tokens in zip(*self.rest(), strict=False):
            if len(set(tokens)) > 1:
                break
            common.append(tokens[0])
        return common

    def ending(self, limit: int) -> list[int] | None:
        if self.is_done:
            return []
        found = min(self.rest(), key=len, default=())
        return list(found) if 0 < len(found) <= limit else None

    def fork(self) -> ListMatcher:
        return type(self)(self.texts, self.at)


class ForgetfulMatcher(ListMatcher):
    """Finds no end behind most texts, as a bounded search may."""

    def ending(self, limit: int) -> list[int] | None:
        if self.is_done:
            return []
        return super().ending(limit) if sum(self.at) % 3 == 1 else None


def constrained(
    texts: list[tuple[int, ...]], num_left: int = 100, cls: type[ListMatcher] = ListMatcher
) -> ConstrainedCanvas:
    return ConstrainedCanvas(
        matcher=cls(texts),
        bits_W=np.zeros(WORDS, dtype=np.uint32),
        mask_id=MASK,
        block_length=4,
        num_left=num_left,
        known_end=ListMatcher(texts).ending(num_left),
    )


def fill_up(
    canvas: ConstrainedCanvas, rng: random.Random, length: int = 4
) -> tuple[list[int], int]:
    """Decode to the end with random acceptances; returns the text and the number of steps."""
    text: list[int] = []
    num_steps = 0
    while text[-1:] != [STOP] and canvas.num_left > 0:
        end = min(length, canvas.num_left)
        tokens, masked = [MASK] * length, [True] * length
        canvas.follow(tokens, masked, end)
        while any(masked[:end]) and STOP not in tokens[: canvas.frontier]:
            num_steps += 1
            open_ = [i for i in range(end) if masked[i]]
            for at in rng.sample(open_, rng.randrange(1, len(open_) + 1)):
                exact = first_allowed(canvas.bits_W, 10)
                tokens[at] = rng.choice(exact if at == canvas.frontier else range(9))
                masked[at] = False
            canvas.follow(tokens, masked, end)
        emitted = tokens[:end]
        if STOP in emitted[: canvas.frontier]:
            emitted = emitted[: emitted.index(STOP) + 1]
        text += emitted
        canvas.emitted(len(emitted))
    return text, num_steps


TEXTS = st.lists(
    st.lists(st.integers(1, 8), min_size=1, max_size=9).map(tuple),
    min_size=1,
    max_size=6,
    unique=True,
)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(0, 2**32))
def test_what_is_emitted_is_a_text(texts: list[tuple[int, ...]], seed: int) -> None:
    text, num_steps = fill_up(constrained(texts), random.Random(seed))
    assert text[-1] == STOP
    assert tuple(text[:-1]) in texts
    # A position is taken back once at most.
    assert num_steps <= 2 * len(text) + 2 * 4


@pytest.mark.parametrize("cls", [ListMatcher, ForgetfulMatcher])
@settings(max_examples=300, deadline=None)
@given(texts=TEXTS, seed=st.integers(0, 2**32), num_left=st.integers(1, 12))
def test_a_text_ends_within_its_tokens(
    cls: type[ListMatcher], texts: list[tuple[int, ...]], seed: int, num_left: int
) -> None:
    """If the shortest one fits; what was accepted on the way to a longer one is taken back."""
    shortest = min(map(len, texts)) + 1
    text, num_steps = fill_up(constrained(texts, num_left, cls), random.Random(seed))
    assert len(text) <= num_left
    if shortest <= num_left:
        assert text[-1] == STOP
        assert tuple(text[:-1]) in texts
    assert num_steps <= 2 * len(text) + 2 * 4


def test_what_must_come_is_filled_in() -> None:
    """As far as it is certain."""
    canvas = constrained([(1, 2, 3, 4, 5), (1, 2, 3, 6)])
    tokens, masked = [MASK] * 4, [True] * 4
    canvas.follow(tokens, masked, 4)
    assert tokens == [1, 2, 3, MASK]
    assert masked == [False, False, False, True]


def test_a_wrong_guess_is_masked_again_and_later_ones_stay() -> None:
    canvas = constrained([(1, 2, 3, 4), (2, 5, 3, 4)])
    tokens, masked = [2, 7, 3, MASK], [False, False, False, True]
    canvas.follow(tokens, masked, 4)
    # After 2 only 5 may come, and 3 and 4 after it.
    assert tokens == [2, 5, 3, 4]
    assert not any(masked)
    canvas = constrained([(1, 2, 3), (1, 4, 3), (1, 5, 3)])
    tokens, masked = [1, 7, 3, MASK], [False, False, False, True]
    canvas.follow(tokens, masked, 4)
    assert (tokens[:3], masked[:3]) == ([1, MASK, 3], [False, True, False])
    assert first_allowed(canvas.bits_W, 9) == [2, 4, 5]


def test_a_constraint_that_allows_nothing_is_reported() -> None:
    tokens, masked = [MASK] * 4, [True] * 4
    with pytest.raises(DeadEndError, match="nothing may come next"):
        constrained([]).follow(tokens, masked, 4)


def test_a_known_end_that_does_not_fit_is_reported() -> None:
    canvas = constrained([(1, 2), (3, 4, 5, 6, 7)], 4, ForgetfulMatcher)
    canvas.known_end = [1, 3, STOP]
    tokens, masked = [3, 4, 5, 6], [False] * 4
    with pytest.raises(DeadEndError, match="known end"):
        canvas.follow(tokens, masked, 4)


class HastyMatcher(ListMatcher):
    """Takes the first text's next two tokens for forced, whatever the others say."""

    def forced(self) -> list[int]:
        return [self.rest()[0][0], 8] if len(self.at) == 1 else []


def test_a_forced_token_that_does_not_fit_is_left_open() -> None:
    canvas = constrained([(1, 2, 3), (1, 2, 4), (1, 3, 4), (2, 2)], cls=HastyMatcher)
    tokens, masked = [1, MASK, MASK, MASK], [False, True, True, True]
    canvas.follow(tokens, masked, 4)
    assert (tokens, masked) == ([1, 2, MASK, MASK], [False, False, True, True])
    assert first_allowed(canvas.bits_W, 9) == [3, 4]
    assert canvas.forced == []


def test_a_request_that_comes_back_goes_on_where_it_was() -> None:
    texts = [(1, 2, 3, 4, 5, 6, 7, 8, 1), (1, 2, 3, 4, 5, 7), (1, 1)]
    canvas = constrained(texts, num_left=7)
    canvas.replay([1, 2, 3, 4])
    assert (canvas.num_left, canvas.known_end) == (3, [5, 7, STOP])
    tokens, masked = [MASK] * 3, [True] * 3
    canvas.follow(tokens, masked, 3)
    # Of both texts only the shorter one still fits; 6 is a token too far.
    assert tokens[0] == 5
    tokens, masked = [5, 6, 7], [False] * 3
    canvas.follow(tokens, masked, 3)
    assert tokens == [5, 7, STOP]
    with pytest.raises(DeadEndError, match="does not meet the constraint"):
        constrained(texts).replay([1, 3])


def thoughts(
    inner: ListMatcher, ends: tuple[int, ...], answers: tuple[int, ...] = ()
) -> ReasoningMatcher:
    return ReasoningMatcher(
        inner,
        lambda tokens, token: tokens[-1] == token and token in ends,
        [5],
        is_thinking=True,
        is_answer=lambda token: token in answers,
    )


def test_thoughts_are_free_and_what_follows_them_is_not() -> None:
    """Token 8 ends them; no end of the text is known before."""
    matcher = thoughts(ListMatcher([(1, 2)]), (8,))
    bits = np.zeros(WORDS, np.uint32)
    matcher.fill(bits)
    assert len(first_allowed(bits, 99)) == 32
    assert matcher.ending(99) is None
    assert matcher.forced() == []
    before = matcher.fork()
    assert all(matcher.accept(token) for token in (7, 3, 8))
    assert matcher.ending(99) == matcher.forced() == [1, 2, STOP]
    assert not matcher.fork().accept(2)
    assert all(matcher.accept(token) for token in (1, 2, STOP))
    assert matcher.is_done
    assert not before.is_done
    assert before.accept(2)


def test_thoughts_may_end_with_the_answers_first_token() -> None:
    """Token 4 is one of the answer, as a tool call's marker; token 8 is not."""
    for end, is_answer in ((4, True), (8, False)):
        matcher = thoughts(ListMatcher([(4, 1)]), (4, 8), (4,))
        assert all(matcher.fork().accept(token) for token in (7, end))
        rest = (1, STOP) if is_answer else (4, 1, STOP)
        assert all(matcher.accept(token) for token in (7, end, *rest))
        assert matcher.is_done


def test_a_parser_sees_a_bounded_tail() -> None:
    seen: list[int] = []

    def is_end(tokens: object, token: int) -> bool:
        seen.append(len(tokens))  # type: ignore[arg-type]
        return False

    matcher = ReasoningMatcher(ListMatcher([(1,)]), is_end, range(5000), is_thinking=True)
    assert all(matcher.accept(7) for _ in range(500))
    assert max(seen) <= 64


def test_bits() -> None:
    bits = np.array([1 << 31 | 1, 0, 6], dtype=np.uint32)
    assert first_allowed(bits, 10) == [0, 31, 65, 66]
    assert first_allowed(bits, 3) == [0, 31, 65]
    assert [is_allowed(bits, token) for token in (0, 1, 31, 65, 95)] == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_bits_are_set_and_packed() -> None:
    flags = np.random.default_rng(0).random(75) < 0.5
    bits = packed(flags, 3)
    assert first_allowed(bits, 99) == np.flatnonzero(flags).tolist()
    for token in range(75):
        set_bit(bits, token, not flags[token])
    assert first_allowed(bits, 99) == np.flatnonzero(~flags).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mask_rows(dtype: torch.dtype) -> None:
    """Only the rows that are named lose anything, and exactly what their bits lack."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 70, generator=generator).to(dtype)
    allowed = torch.rand(2, 96, generator=generator) < 0.5
    bits = np.packbits(allowed.numpy(), axis=1, bitorder="little").view(np.int32)
    masked = logits.clone()
    mask_rows(masked, torch.tensor([3, 1]), torch.from_numpy(bits))
    for row, token in product(range(5), range(70)):
        kept = row not in (1, 3) or allowed[(3, 1).index(row), token]
        assert masked[row, token] == (logits[row, token] if kept else -torch.inf)
