"""A canvas is held to its grammar, whatever is accepted in whatever order."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_diffusion.structured.frontier import GuidedCanvas, Vocabulary
from vllm_diffusion.structured.mask import mask_rows
from vllm_diffusion.structured.matcher import Bits, NoMatcher, first_allowed, is_allowed
from vllm_diffusion.structured.reasoning import ThinkingMatcher
from vllm_diffusion.structured.shortest_end import Closing

STOP, MASK, WORDS = 0, 9, 1


class ListMatcher:
    """The language of some token sequences, a stop token behind each."""

    def __init__(self, texts: list[tuple[int, ...]], at: tuple[int, ...] = ()) -> None:
        self.texts, self.at = texts, at

    @property
    def is_done(self) -> bool:
        return self.at[-1:] == (STOP,)

    def following(self) -> set[int]:
        rest = [t[len(self.at) :] for t in self.texts if t[: len(self.at)] == self.at]
        return {t[0] if t else STOP for t in rest}

    def accept(self, token: int) -> bool:
        if self.is_done or token not in self.following():
            return False
        self.at = (*self.at, token)
        return True

    def fill(self, bits_W: Bits) -> None:
        bits_W[:] = sum(1 << token for token in self.following())

    def ending(self, limit: int) -> list[int] | None:
        return None

    def forced_text(self) -> str:
        rest = [t[len(self.at) :] for t in self.texts if t[: len(self.at)] == self.at]
        common = [tokens[0] for tokens in zip(*rest, strict=False) if len(set(tokens)) == 1]
        size = next(
            (i for i, tokens in enumerate(zip(*rest, strict=False)) if len(set(tokens)) > 1),
            len(common),
        )
        return "".join(map(str, common[:size]))

    def fork(self) -> ListMatcher:
        return ListMatcher(self.texts, self.at)


def guided(texts: list[tuple[int, ...]], num_left: int = 100) -> GuidedCanvas:
    words = Vocabulary(
        mask_id=MASK,
        stop_ids=(STOP,),
        encode=lambda text: [int(digit) for digit in text],
    )
    return GuidedCanvas(
        matcher=ListMatcher(texts),
        bits_W=np.zeros(WORDS, dtype=np.uint32),
        vocabulary=words,
        closing=Closing(WORDS, (STOP,), tuple(range(1, 9))),
        block_length=4,
        num_left=num_left,
    )


def fill_up(canvas: GuidedCanvas, rng: random.Random, length: int = 4) -> tuple[list[int], int]:
    """Decode to the end with random acceptances; returns the text and the number of steps."""
    text: list[int] = []
    num_steps = 0
    while text[-1:] != [STOP] and canvas.num_left > 0:
        end = min(length, canvas.num_left)
        tokens, masked = [MASK] * length, [True] * length
        canvas.walk(tokens, masked, end)
        while any(masked[:end]) and STOP not in tokens[: canvas.frontier]:
            num_steps += 1
            open_ = [i for i in range(end) if masked[i]]
            for at in rng.sample(open_, rng.randrange(1, len(open_) + 1)):
                exact = first_allowed(canvas.bits_W, 10)
                tokens[at] = rng.choice(exact if at == canvas.frontier else range(9))
                masked[at] = False
            canvas.walk(tokens, masked, end)
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
    text, num_steps = fill_up(guided(texts), random.Random(seed))
    assert text[-1] == STOP
    assert tuple(text[:-1]) in texts
    # A position is taken back once at most.
    assert num_steps <= 2 * len(text) + 2 * 4


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(0, 2**32), st.integers(1, 12))
def test_a_text_ends_within_its_tokens(
    texts: list[tuple[int, ...]], seed: int, num_left: int
) -> None:
    """If the shortest one fits; what was accepted on the way to a longer one is taken back."""
    shortest = min(map(len, texts)) + 1
    text, _ = fill_up(guided(texts, num_left), random.Random(seed))
    assert len(text) <= num_left
    if shortest <= num_left:
        assert text[-1] == STOP
        assert tuple(text[:-1]) in texts


def test_what_must_come_is_filled_in() -> None:
    """As far as it is certain."""
    canvas = guided([(1, 2, 3, 4, 5), (1, 2, 3, 6)])
    tokens, masked = [MASK] * 4, [True] * 4
    canvas.walk(tokens, masked, 4)
    assert tokens == [1, 2, 3, MASK]
    assert masked == [False, False, False, True]


def test_a_wrong_guess_is_masked_again_and_later_ones_stay() -> None:
    canvas = guided([(1, 2, 3, 4), (2, 5, 3, 4)])
    tokens, masked = [2, 7, 3, MASK], [False, False, False, True]
    canvas.walk(tokens, masked, 4)
    # After 2 only 5 may come, and 3 and 4 after it.
    assert tokens == [2, 5, 3, 4]
    assert not any(masked)
    canvas = guided([(1, 2, 3), (1, 4, 3), (1, 5, 3)])
    tokens, masked = [1, 7, 3, MASK], [False, False, False, True]
    canvas.walk(tokens, masked, 4)
    assert (tokens[:3], masked[:3]) == ([1, MASK, 3], [False, True, False])
    assert first_allowed(canvas.bits_W, 9) == [2, 4, 5]


def test_a_grammar_that_allows_nothing_is_reported() -> None:
    canvas = guided([])
    tokens, masked = [MASK] * 4, [True] * 4
    canvas.walk(tokens, masked, 4)
    assert canvas.is_stuck


@pytest.mark.parametrize("limit", range(6))
def test_closing(limit: int) -> None:
    texts = [(1, 1, 1, 1, 1, 1), (2, 3, 4)]
    closing = Closing(WORDS, (STOP,), tuple(range(1, 9)))
    for _ in range(2):  # the second time from memory
        found = closing.path(ListMatcher(texts), limit)
        assert found == ([2, 3, 4, STOP] if limit >= 4 else None)


def test_thoughts_are_free_and_what_follows_them_is_not() -> None:
    """Token 8 ends them; no end of the text is looked for before."""
    matcher = ThinkingMatcher(ListMatcher([(1, 2)]), lambda tokens: tokens[-1:] == [8], [5])
    bits = np.zeros(WORDS, np.uint32)
    matcher.fill(bits)
    assert len(first_allowed(bits, 99)) == 32
    assert Closing(WORDS, (STOP,), tuple(range(1, 9))).path(matcher, 9) is None
    before = matcher.fork()
    assert all(matcher.accept(token) for token in (7, 3, 8))
    assert not matcher.fork().accept(2)
    assert all(matcher.accept(token) for token in (1, 2, STOP))
    assert matcher.is_done
    assert not before.is_done
    assert before.accept(2)


def test_thoughts_may_end_with_the_answers_first_token() -> None:
    """Token 4 is one of the answer, as a tool call's marker; token 8 is not."""
    for end, is_answer in ((4, True), (8, False)):
        matcher = ThinkingMatcher(
            ListMatcher([(4, 1)]),
            lambda tokens: tokens[-1] in (4, 8),
            [5],
            lambda token: token == 4,
        )
        assert all(matcher.fork().accept(token) for token in (7, end))
        rest = (1, STOP) if is_answer else (4, 1, STOP)
        assert all(matcher.accept(token) for token in (7, end, *rest))
        assert matcher.is_done


def test_a_grammar_that_was_not_compiled_ends_its_text_at_once() -> None:
    canvas = guided([])
    canvas.matcher = NoMatcher()
    tokens, masked = [MASK] * 4, [True] * 4
    canvas.walk(tokens, masked, 4)
    assert canvas.is_stuck
    assert (tokens[0], masked[0]) == (STOP, False)


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
