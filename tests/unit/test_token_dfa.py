"""Regular languages over tokens: what every path spells, what every matcher allows."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.structured_inputs import LIMITS, dfa_of, random_path, spelled_by, vocabulary_of
from vllm_diffusion.structured.constraint import TooLargeError
from vllm_diffusion.structured.dfa_matcher import (
    ByteDfaMatcher,
    ByteDfaTables,
    Kept,
    TokenDfaMatcher,
    TokenDfaTables,
)
from vllm_diffusion.structured.matcher import Matcher, first_allowed
from vllm_diffusion.structured.token_dfa import Automaton, automaton_of, over_tokens

SPELLED = [b"a", b"b", b"ab", b"1", "é".encode(), b"\xc3", b"\xa9a", b"\xa9", b"", b"<stop>"]
V, STOP = len(SPELLED), len(SPELLED) - 1
TEXT = range(8)
VOCABULARY = vocabulary_of(SPELLED, [8, STOP])
REGEXES = [
    "yes|a",
    "ab|ba|b1",
    "a*b",
    "[ab]{2,4}",
    "1(a|b1)*",
    "(a|é){0,3}1?",
    "é*a",
    "[b1é]",
    "b?",
]


def automaton_of_regex(regex: str, *, is_cut: bool = False) -> Automaton:
    tokens = over_tokens(dfa_of(regex), VOCABULARY, LIMITS, is_cut=is_cut)
    return automaton_of(tokens, [STOP])


def token_matcher(regex: str, *, is_cut: bool = False) -> TokenDfaMatcher:
    automaton = automaton_of_regex(regex, is_cut=is_cut)
    return TokenDfaMatcher(TokenDfaTables(automaton, VOCABULARY.num_words))


def byte_matcher(regex: str) -> ByteDfaMatcher:
    return ByteDfaMatcher(ByteDfaTables(dfa_of(regex), VOCABULARY), (STOP,))


MATCHERS = {"tokens": token_matcher, "bytes": byte_matcher}


def matches(regex: str, path: tuple[int, ...]) -> bool:
    try:
        text = b"".join(SPELLED[token] for token in path).decode()
    except UnicodeDecodeError:
        return False
    return re.fullmatch(regex, text) is not None


@pytest.mark.parametrize("regex", REGEXES)
def test_paths_are_the_texts(regex: str) -> None:
    """All of up to four tokens, in every way that they can be cut."""
    automaton = automaton_of_regex(regex)
    for length in range(5):
        for path in itertools.product(TEXT, repeat=length):
            state: int | None = automaton.start
            for token in (*path, STOP):
                state = None if state is None else automaton.step(state, token)
            assert (state == automaton.done) == matches(regex, path), path


@pytest.mark.parametrize("kind", MATCHERS)
@pytest.mark.parametrize("regex", REGEXES)
def test_a_matcher_allows_what_can_be_completed(regex: str, kind: str) -> None:
    # What up to three tokens can still be made a text of, by any text of up to seven.
    texts = [p for n in range(5) for p in itertools.product(TEXT, repeat=n) if matches(regex, p)]
    prefixes = {path[:n] for path in texts for n in range(len(path) + 1)}
    bits = np.zeros(VOCABULARY.num_words, dtype=np.uint32)
    for prefix in sorted(path for path in prefixes if len(path) < 3):
        matcher: Matcher = MATCHERS[kind](regex)
        assert all(matcher.accept(token) for token in prefix)
        matcher.fill(bits)
        allowed = set(first_allowed(bits, 99))
        assert allowed == {t for t in range(V) if matcher.fork().accept(t)}
        assert {token for token in TEXT if (*prefix, token) in prefixes} <= allowed
        assert (STOP in allowed) == (prefix in texts)
        assert 8 not in allowed
        for token in allowed - {STOP}:
            # A way to the end is there behind each.
            other = matcher.fork()
            assert other.accept(token)
            assert other.ending(99)


@pytest.mark.parametrize("regex", REGEXES)
def test_an_end_is_the_shortest(regex: str) -> None:
    matcher = token_matcher(regex)
    fewest = next(
        n for n in range(9) if any(matches(regex, p) for p in itertools.product(TEXT, repeat=n))
    )
    end = matcher.ending(99)
    assert end is not None
    assert len(end) == fewest + 1
    assert matches(regex, tuple(end[:-1]))
    assert matcher.ending(fewest + 1) == end
    assert matcher.ending(fewest) is None
    over_bytes = byte_matcher(regex).ending(99)
    assert over_bytes is not None
    assert matches(regex, tuple(over_bytes[:-1]))
    assert byte_matcher(regex).ending(len(over_bytes) - 1) is None
    for token in end:
        assert matcher.accept(token)
    assert (matcher.is_done, matcher.ending(0), matcher.forced()) == (True, [], [])
    bits = np.zeros(VOCABULARY.num_words, dtype=np.uint32)
    matcher.fill(bits)
    assert set(first_allowed(bits, 32)) == set(range(32))
    assert matcher.accept(3)


@pytest.mark.parametrize("kind", MATCHERS)
def test_an_end_in_the_middle_of_a_character(kind: str) -> None:
    matcher = MATCHERS[kind]("éa")
    assert matcher.accept(5)
    assert matcher.ending(9) == ([6, STOP] if kind == "tokens" else [7, 0, STOP])


def test_what_must_come() -> None:
    assert token_matcher("1(a|b)").forced() == [3]
    assert token_matcher("11").forced() == [3, 3, STOP]
    # "ab" may be one token or two.
    assert token_matcher("1ab").forced() == [3]
    assert token_matcher("1ab", is_cut=True).forced() == [3, 2, STOP]
    assert byte_matcher("1111?").forced() == [3, 3]
    assert byte_matcher("1(é|è)").forced() == []


def test_forced_texts_are_cut_as_the_tokenizer_does() -> None:
    spelled = [b"a", b"b", b"ab", b"1"]

    def encode(text: str) -> list[int]:
        known = {"abab1": [2, 2, 3], "bab1": [1, 2, 3], "ab1": [0, 1, 3], "b1": [1, 3]}
        return known.get(text, [spelled.index(char.encode()) for char in text])

    vocabulary = vocabulary_of([*spelled, b"<stop>"], [4], encode)
    automaton = automaton_of(over_tokens(dfa_of("abab1(a|b)"), vocabulary, LIMITS), [4])
    state = automaton.start
    # "ab", and then "ab1", which this tokenizer cuts into its letters.
    for token, other in ((2, 0), (0, 2), (1, 2)):
        assert automaton.step(state, other) is None
        following = automaton.step(state, token)
        assert following is not None
        state = following
    assert automaton.step(state, 3) is not None


def test_the_last_token_of_a_forced_text_may_merge_with_what_follows() -> None:
    automaton = automaton_of_regex("1a(b|1)", is_cut=True)
    state = automaton.step(automaton.start, 3)
    assert state is not None
    assert automaton.step(state, 0) is not None
    assert automaton.step(state, 2) is not None


def test_a_stop_token_that_is_text() -> None:
    """It ends the text where that may end, and is never text of it."""
    tokens = over_tokens(dfa_of("a(b|ba)?"), VOCABULARY, LIMITS, is_cut=False)
    automaton = automaton_of(tokens, [1, STOP])
    assert automaton.step(automaton.start, 1) is None
    state = automaton.step(automaton.start, 0)
    assert state is not None
    assert automaton.step(state, 1) == automaton.step(state, STOP) == automaton.done
    whole = automaton.step(automaton.start, 2)
    assert whole is not None
    assert automaton.step(whole, 0) is not None
    with pytest.raises(ValueError, match="no text"):
        automaton_of(over_tokens(dfa_of("b+"), VOCABULARY, LIMITS), [1])
    matcher = ByteDfaMatcher(ByteDfaTables(dfa_of("a(b|ba)?"), VOCABULARY), (1, STOP))
    bits = np.zeros(VOCABULARY.num_words, dtype=np.uint32)
    matcher.fill(bits)
    assert first_allowed(bits, 9) == [0, 2]
    assert matcher.accept(0)
    matcher.fill(bits)
    assert first_allowed(bits, 9) == [1, STOP]
    assert matcher.accept(1)
    assert matcher.is_done


def test_steps_follow_the_language() -> None:
    automaton = automaton_of_regex("a*b")
    state = automaton.start
    for token in (0, 0, 2, STOP):
        following = automaton.step(state, token)
        assert following is not None
        state = following
    assert state == automaton.done
    assert automaton.step(state, 3) == automaton.done
    assert automaton.step(automaton.start, 3) is None
    assert automaton.distance_N[automaton.start] == 2


def test_what_no_tokens_can_spell_is_refused() -> None:
    with pytest.raises(ValueError, match="no text of the vocabulary's tokens"):
        automaton_of_regex("x+")


@pytest.mark.parametrize(("bound", "words"), [("edges", "edges"), ("cells", "states of 10 tokens")])
def test_automata_beyond_the_bounds_are_refused(bound: str, words: str) -> None:
    limits = replace(LIMITS, **{bound: 3})
    with pytest.raises(TooLargeError, match=words):
        over_tokens(dfa_of("[ab]{3}"), VOCABULARY, limits)


def test_a_larger_vocabulary() -> None:
    """Random tokens: the same walks over tokens as over bytes."""
    rng = random.Random(0)
    spelled = [bytes([byte]) for byte in range(256)]
    spelled += [bytes(rng.choices(b'ab1", :', k=rng.randrange(2, 6))) for _ in range(400)]
    vocabulary = vocabulary_of([*spelled, b""], [len(spelled)])
    stop = len(spelled)
    regex = r'"(a|b1|[^"\\]){0,4}"(, "[ab]+"){1,3}'
    automaton = automaton_of(over_tokens(dfa_of(regex), vocabulary, LIMITS, is_cut=False), [stop])
    tables = TokenDfaTables(automaton, vocabulary.num_words)
    byte_tables = ByteDfaTables(dfa_of(regex), vocabulary)
    bits = [np.zeros(vocabulary.num_words, dtype=np.uint32) for _ in range(2)]
    for _ in range(20):
        path = random_path(automaton, rng)
        assert re.fullmatch(regex, spelled_by(vocabulary, path).decode(), re.DOTALL)
        matchers = (TokenDfaMatcher(tables), ByteDfaMatcher(byte_tables, (stop,)))
        for token in (*path, stop):
            for matcher, bits_W in zip(matchers, bits, strict=True):
                matcher.fill(bits_W)
                assert matcher.accept(token)
            assert (bits[0] == bits[1]).all()
        assert all(matcher.is_done for matcher in matchers)


def test_what_is_remembered_has_a_bound() -> None:
    kept: Kept[str] = Kept(1 << 20, 100)
    for state in range(20):
        kept.put(state, str(state))
        assert kept.get(0) == "0"  # used, and so kept
    assert [state for state in range(20) if kept.get(state)] == [0, *range(13, 20)]
