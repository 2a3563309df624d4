"""Texts in context-free grammars: what is allowed, how they end, and what a bound makes of them."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("llguidance")

import llguidance

from tests.unit.structured_inputs import LIMITS, spelled_by, tiny_vocabulary
from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.grammar_matcher import GrammarMatcher, byte_tokenizer
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.matcher import DeadEndError, first_allowed
from vllm_diffusion.structured.shortest_end import MAX_NODES, shortest_end

STOPS = (2, 0)
BRACKETS = 'start: "(" start ")" | "x"'
PATTERN = r'start: "{" /"[0-9]+-[0-9]+-[0-9]+-z"/ "}"'


def of(grammar: str, limits: Limits = LIMITS, hints: tuple[bytes, ...] = ()) -> GrammarMatcher:
    return GrammarMatcher(tiny_vocabulary(), grammar, STOPS, limits, hints)


def schema(value: object) -> str:
    text: str = llguidance.LLMatcher.grammar_from_json_schema(
        json.dumps(value), defaults={"whitespace_flexible": False}
    )
    return text


def over_bytes(grammar: str, text: bytes = b"") -> object:
    matcher = llguidance.LLMatcher(byte_tokenizer(), grammar, log_level=0)
    assert matcher.consume_tokens(list(text))
    return matcher


def is_balanced(text: str) -> bool:
    depth = text.count("(")
    return text == "(" * depth + "x" + ")" * depth


def test_what_is_allowed_can_be_accepted_and_ended() -> None:
    vocabulary, rng = tiny_vocabulary(), random.Random(0)
    bits = np.zeros(vocabulary.num_words, dtype=np.uint32)
    for _ in range(10):
        matcher, path = of(BRACKETS), []
        while not matcher.is_done:
            matcher.fill(bits)
            allowed = first_allowed(bits, vocabulary.size)
            tried = [token for token in range(vocabulary.size) if matcher.fork().accept(token)]
            assert allowed == tried
            text = spelled_by(vocabulary, path).decode()
            assert (2 in allowed) == (0 in allowed) == is_balanced(text)
            end = matcher.ending(99)
            assert end is not None
            assert is_balanced(text + spelled_by(vocabulary, end[:-1]).decode())
            assert end[-1] == 2
            assert matcher.ending(len(end) - 1) is None
            token = rng.choice(allowed)
            assert matcher.accept(token)
            path.append(token)
        matcher.fill(bits)
        assert len(first_allowed(bits, 99)) == 99
        assert matcher.ending(0) == matcher.forced() == []
        assert matcher.accept(7)


def test_forks_are_apart() -> None:
    matcher = of(BRACKETS)
    other = matcher.fork()
    token = tiny_vocabulary().token_of[b"("]
    assert other.accept(token)
    assert len(matcher.ending(9) or []) in (2, 4)
    assert not other.accept(2)
    assert not matcher.accept(3)  # the mask is no text
    assert not matcher.accept(5000)
    assert matcher.accept(tiny_vocabulary().token_of[b"x"])


def test_forced_texts() -> None:
    matcher = of('start: "{\\"name\\": " ("1" | "2") "}"')
    vocabulary = tiny_vocabulary()
    tokens = vocabulary.encode('{"name": ')
    assert matcher.forced() == tokens[:-1]
    for token in tokens:
        assert matcher.accept(token)
    assert matcher.forced() == []
    # A character of two bytes that have one in common is left for later.
    assert of('start: "é" | "è"').forced() == []


SCHEMAS: list[object] = [
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "array"}},
     "required": ["a", "b"]},
    {"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "minItems": 3},
     "minItems": 4},
    {"$defs": {"n": {"type": "object", "properties": {"l": {"$ref": "#/$defs/n"}}}},
     "$ref": "#/$defs/n"},
    {"type": "string", "minLength": 40},
    {},
]  # fmt: skip


@pytest.mark.parametrize("value", SCHEMAS, ids=lambda value: json.dumps(value)[:50])
def test_found_ends_are_ends(value: object) -> None:
    """From the start, and from anywhere on the way to one of them."""
    grammar = schema(value)
    text = shortest_end(over_bytes(grammar), 2000)
    assert text is not None
    json.loads(text)
    for at in range(0, len(text), 7):
        matcher = over_bytes(grammar, text[:at])
        rest = shortest_end(matcher, 2000)
        assert rest is not None
        json.loads(text[:at] + rest)
        assert len(rest) <= 4 * len(text)
        again = shortest_end(matcher, 2000)
        assert again == rest  # the matcher stays where it is


@pytest.mark.parametrize(
    ("grammar", "prefix", "most"),
    [
        (BRACKETS, b"((((((", 7),
        (r"start: /[ab]*a[ab]{9}/", b"", 10),
        (r"start: /[0-9]+-[0-9]+-[0-9]+-z/", b"123", 8),
        (r"start: (/[^a]/ /[^b]/){40}", b"", 80),
        ('start: ("b" | "c")* "z"', b"bcb", 1),
    ],
)
def test_ends_of_patterns(grammar: str, prefix: bytes, most: int) -> None:
    rest = shortest_end(over_bytes(grammar, prefix), 500)
    assert rest is not None
    assert len(rest) <= 2 * most
    matcher = over_bytes(grammar, prefix + rest)
    assert matcher.is_accepting()  # type: ignore[attr-defined]


def test_the_search_is_bounded() -> None:
    deep = over_bytes(r"start: /[ab]{2000}/ | /(a|b){10}c{3000}/")
    assert shortest_end(deep, 100) is None
    assert shortest_end(deep, 5000, 20) is None
    # A grammar that never ends.
    assert shortest_end(over_bytes('start: "a" start'), 5000, MAX_NODES) is None
    assert shortest_end(over_bytes('start: "a"', b"a"), 9) == b""


def test_hints_stand_for_patterns() -> None:
    hint = b'"0-0-0-z"'
    for prefix in (b"", b'{"', b'{"12-3', b'{"1-2-3-'):
        rest = shortest_end(over_bytes(PATTERN, prefix), 99, 60, (hint,))
        assert rest is not None
        assert over_bytes(PATTERN, prefix + rest).is_accepting()  # type: ignore[attr-defined]
    end = of(PATTERN, hints=(hint,)).ending(60)
    assert end is not None
    assert spelled_by(tiny_vocabulary(), end[:-1]) == b"{" + hint + b"}"


@pytest.mark.parametrize("grammar", ["start: a", "start: [", "start: /(/", '{"type": "strin"}'])
def test_what_the_library_refuses(grammar: str) -> None:
    with pytest.raises(RefusedError) as caught:
        of(grammar)
    assert "\n" not in str(caught.value)
    assert 5 < len(str(caught.value)) <= 400


def test_a_bound_of_the_grammar() -> None:
    with pytest.raises(RefusedError, match=r"(?i)size|large|limit"):
        of("start: " + " ".join(f'"{n}"' for n in range(500)), replace(LIMITS, grammar_symbols=50))


def test_a_bound_on_the_way_is_a_dead_end() -> None:
    """Never a text that does not meet the grammar, and never an error of the library."""
    limits = replace(LIMITS, lexer_states=30)
    vocabulary, rng = tiny_vocabulary(), random.Random(0)
    bits = np.zeros(vocabulary.num_words, dtype=np.uint32)

    def follow() -> None:
        matcher = of(r"start: /[ab ]*a[ab ]{12}/ start | /z/", limits)
        for _ in range(200):
            matcher.fill(bits)
            assert matcher.accept(rng.choice(first_allowed(bits, vocabulary.size)))

    with pytest.raises((DeadEndError, RefusedError)):
        follow()
