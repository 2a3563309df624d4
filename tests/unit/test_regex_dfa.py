"""Expressions as automata over bytes, against Python's own reading of them."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.structured_inputs import LIMITS, dfa_of, node_of
from vllm_diffusion.structured.constraint import TooLargeError
from vllm_diffusion.structured.regex_ast import LAST, Alt, Chars, Repeat, Seq
from vllm_diffusion.structured.regex_dfa import _narrow, byte_dfa, encoded

ALPHABET = "abé"
SHORT = ["".join(text) for n in range(5) for text in itertools.product(ALPHABET, repeat=n)]
ATOMS = st.sampled_from(["a", "b", "é", "[ab]", "[^a]", ".", "", "[a-é]", "ab"])


def joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    repeats = st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "{0}", "*?"])
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, repeats).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    )


EXPRESSIONS = st.recursive(ATOMS, joined, max_leaves=8)
UNICODE = [
    "a|ab|abb", "[^a]*", "[^-a]+|.{2}", r"[\u07f0-\u0900]{1,2}", "[\u20a0-\U0001f650]",
    r'(?:[^"\\\\]|\\\\.){0,3}', "(?:ab?){2,}?", "(a|b|)c?", "[\ud7ff-\uffff]x?",
]  # fmt: skip


@settings(max_examples=150)
@given(EXPRESSIONS)
def test_random_expressions_match_what_python_matches(expression: str) -> None:
    dfa = dfa_of(expression)
    pattern = re.compile(expression)
    found = [text for text in SHORT if dfa.accepts(text.encode())]
    assert found == [text for text in SHORT if pattern.fullmatch(text)]


@settings(max_examples=100)
@given(EXPRESSIONS)
def test_equal_states_are_one(expression: str) -> None:
    """As many states as there are different futures: the least automaton."""
    dfa = dfa_of(expression)
    live = range(dfa.dead)
    class_of = [int(dfa.is_final[state]) for state in range(dfa.dead + 1)]
    class_of[dfa.dead] = 2
    while True:
        rows = [(class_of[s], *(class_of[t] for t in dfa.table[s])) for s in range(dfa.dead + 1)]
        new = [sorted(set(rows)).index(row) for row in rows]
        if len(set(new)) == len(set(class_of)):
            break
        class_of = new
    assert len(set(class_of)) == dfa.dead + 1
    # Each can be reached, and completed.
    reached, left = {0}, [0]
    while left:
        more = set(dfa.table[left.pop()].tolist()) - reached
        reached |= more
        left += more
    assert reached >= set(live)
    assert (dfa.distances()[: dfa.dead] < 1 << 30).all()


@settings(max_examples=100)
@given(EXPRESSIONS)
def test_distances_and_shortest_texts(expression: str) -> None:
    dfa = dfa_of(expression)
    distance_Q = dfa.distances()
    sizes = [len(text.encode()) for text in SHORT if re.fullmatch(expression, text)]
    assert not sizes or distance_Q[0] <= min(sizes)
    for state in range(dfa.dead):
        text = dfa.shortest(state, distance_Q)
        assert len(text) == distance_Q[state]
        at = state
        for byte in text:
            at = int(dfa.table[at, byte])
        assert dfa.is_final[at]
    # From the start it is a text.
    assert re.fullmatch(expression, dfa.shortest(0, distance_Q).decode())


@settings(max_examples=150)
@given(st.sampled_from(UNICODE), st.data())
def test_characters_of_every_length(expression: str, data: st.DataObject) -> None:
    alphabet = st.sampled_from(
        'ab1-_" \\né\u07ff\u0800\u20ac\ud7ff\ue000\uffff\U0001f600\U0010ffff'
    )
    whole = st.from_regex(expression, fullmatch=True)
    text = data.draw(st.one_of(st.text(alphabet, max_size=6), whole))
    if any("\ud800" <= char <= "\udfff" for char in text):
        return
    is_line_break = any(char in "\r\u2028\u2029" for char in text)
    if not is_line_break:  # to Python a dot matches these; to ECMA-262 it does not
        assert dfa_of(expression).accepts(text.encode()) == bool(re.fullmatch(expression, text))


def test_ranges_of_characters_as_bytes() -> None:
    ends = [0, 0x41, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFFFF, 0x10000, LAST]
    for first, last in itertools.combinations(ends, 2):
        sequences = list(encoded(first, last))
        size = sum(int(np.prod([high - low + 1 for low, high in s])) for s in sequences)
        surrogates = 0x800 if first < 0xD800 and last >= 0xE000 else 0
        assert size == last - first + 1 - surrogates
        for code in {first, last, (first + last) // 2} - set(range(0xD800, 0xE000)):
            data = chr(code).encode()
            fits = [s for s in sequences if len(s) == len(data)
                    and all(a <= b <= c for (a, c), b in zip(s, data, strict=True))]  # fmt: skip
            assert len(fits) == 1


@pytest.mark.parametrize("seed", range(5))
def test_columns_that_differ_are_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 3, (3 + seed, 5))[:, rng.integers(0, 5, 256)]
    narrow = _narrow(table)
    expected = {tuple(column) for column in table.T.tolist()}
    assert {tuple(column) for column in narrow.T.tolist()} == expected
    assert narrow.shape[1] == len(expected)


def test_no_text() -> None:
    nothing = Chars(())
    assert byte_dfa(nothing, LIMITS) is None
    assert byte_dfa(Seq((Chars(((97, 97),)), nothing)), LIMITS) is None
    dfa = byte_dfa(Alt((nothing, Repeat(nothing, 0, None))), LIMITS)
    assert dfa is not None
    assert (dfa.dead, dfa.accepts(b""), dfa.accepts(b"a")) == (1, True, False)


@pytest.mark.parametrize(
    "expression",
    ["(a|b)*a(a|b){15}", "(?:.{1000}){1000}", "a{100000}", "(.*a.{12})", "(a?b?){0,2000}",
     "(?:[^a]{1,2}[^b]{0,2}){300}", "(?:(?:a?){100}){100}", "(x{0,50}){0,50}",
     "(?:a|b|c|d|e){0,4000}", "(?:a{0,9}){0,9999}b"],
)  # fmt: skip
def test_bounds_are_reached_soon(expression: str) -> None:
    start = time.process_time()
    with contextlib.suppress(TooLargeError):
        assert dfa_of(expression).dead <= LIMITS.states
    assert time.process_time() - start < 3.0


@pytest.mark.parametrize(
    ("bound", "words"),
    [("states", "more than 5 states"), ("expression_nodes", "more than 5 parts")],
)
def test_bounds_are_the_servers(bound: str, words: str) -> None:
    with pytest.raises(TooLargeError, match=words):
        byte_dfa(node_of("abcdefg"), replace(LIMITS, **{bound: 5}))


def test_bounded_repetitions_make_small_automata() -> None:
    assert dfa_of('(?:[^"\\\\]|\\\\[nrt]){0,64}').dead < 640  # nine states a character
    assert dfa_of("(a|bc){0,30}").dead < 100
