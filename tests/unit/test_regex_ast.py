"""Expressions as trees: what is read means no more than Python and ECMA-262 both allow."""

from __future__ import annotations

import re
import unicodedata

import pytest

from tests.unit.structured_inputs import LIMITS, dfa_of, node_of
from vllm_diffusion.structured.constraint import RefusedError, TooLargeError
from vllm_diffusion.structured.regex_ast import (
    ANY,
    LAST,
    Chars,
    Seq,
    complement,
    nesting,
    parse,
    shortest,
)

ECMA_SPACES = {
    *"\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff",
    *map(chr, range(0x2000, 0x200B)),
}


def spans_of(expression: str) -> tuple[tuple[int, int], ...]:
    node = parse(expression, LIMITS.nesting)
    assert isinstance(node, Seq)
    (chars,) = node.parts
    assert isinstance(chars, Chars)
    return chars.spans


def chars_of(expression: str) -> set[str]:
    """The set's characters; of long ranges the ends, and some between."""
    out: set[int] = set()
    for first, last in spans_of(expression):
        out |= {last, *range(first, last + 1, 1 if last - first < 0x3000 else 61)}
    return {*map(chr, out)}


def has(expression: str, char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in spans_of(expression))


@pytest.mark.parametrize(
    "expression",
    [r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", ".", r"[^\d]", r"[^\w]", r"[^\s]", r"[^\D]",
     r"[^\W]", r"[^\S]", r"[\d\s]", r"[^\da-z]", r"[\W\d]", r"[^a]", r"[\s\S]"],
)  # fmt: skip
def test_classes_hold_what_python_has_in_them(expression: str) -> None:
    """And none of Python's with other flags, nor of ECMA-262's."""
    found = chars_of(expression)
    inside = "".join(sorted(found))
    assert found
    assert re.findall(expression, inside) == list(inside)
    assert set(re.findall(expression, inside, re.ASCII)) | ECMA_SPACES >= found


def test_classes_are_those_of_both_dialects() -> None:
    assert chars_of(r"\d") == set("0123456789")
    assert chars_of(r"\w") == set(re.findall(r"\w", "".join(map(chr, range(0x3000))), re.ASCII))
    assert chars_of(r"\s") <= ECMA_SPACES
    assert not any(has(r"\S", char) for char in ECMA_SPACES)
    assert all(has(r"\S", char) for char in "aé0_-\u3001\U0001f600")
    assert not {char for char in chars_of(r"\D") if unicodedata.category(char) == "Nd"}
    assert not {char for char in chars_of(r"\W") if unicodedata.category(char)[0] in "LMN"}
    assert not any(has(".", char) for char in "\n\r\u2028\u2029\ud800\udfff")
    assert parse("(?s:.)", 9) == Seq((Seq((ANY,)),))
    assert parse("(?s).", 9) == Seq((ANY,))
    for plain, negated in ((r"\d", r"\D"), (r"\w", r"\W"), (r"\s", r"\S")):
        assert not chars_of(plain) & chars_of(negated)
        assert chars_of(f"[^{negated}]") <= chars_of(plain)


def test_complements() -> None:
    assert complement([]) == ((0, 0xD7FF), (0xE000, LAST))
    assert complement([(0, LAST)]) == ()
    assert complement([(5, 9), (7, 7), (0, 0)]) == ((1, 4), (10, 0xD7FF), (0xE000, LAST))
    assert complement(complement([(3, 4), (5, 9)])) == ((3, 9),)


TEXTS = ["", "a", "b", "ab", "ba", "xab", "abx", "xaby", "xbay", "aab"]


@pytest.mark.parametrize(
    "expression",
    ["ab", "^ab", "ab$", "^ab$", "^^ab$$", "^a|b$", "(^a|b$)", "((ab))", r"\Aab\Z", "^(ab|ba)$",
     "", "^", "$", "^$", "(?:^ab$)", "^a*b", "(?P<name>a)b"],
)  # fmt: skip
def test_borders(expression: str) -> None:
    searched = dfa_of(expression, is_search=True)
    for text in TEXTS:
        assert searched.accepts(text.encode()) == bool(re.search(expression, text)), text
    whole = dfa_of(expression)
    for text in TEXTS:
        assert whole.accepts(text.encode()) == bool(re.fullmatch(expression, text)), text


@pytest.mark.parametrize("expression", ["a^b", "a(^b|c)", "(a$)*", "a$b", "x(?:a|$)y", "(^a)?b"])
def test_borders_within_are_refused(expression: str) -> None:
    for is_search in (False, True):
        with pytest.raises(RefusedError, match=r"\^ and \$ are read at the ends"):
            node_of(expression, is_search=is_search)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("(", "cannot be read: missing"),
        ("[a", "cannot be read: unterminated"),
        ("a**", "cannot be read: multiple repeat"),
        (r"\cA", "cannot be read: bad escape"),
        (r"\p{L}", "cannot be read: bad escape"),
        ("a{5000000000000}", "cannot be read"),
        ("(?i)a", "has flags"),
        ("(?m)^a", "has flags"),
        ("(?a)\\w", "has flags"),
        ("(?i:a)", "not regular"),
        ("(?-s:.)", "cannot be read|not regular"),
        ("a(?=b)", "assert in an expression is not regular"),
        (r"^(?=.*\d)[a-z0-9]{4,8}$", "not regular"),
        ("(?<!a)b", "assert_not in an expression"),
        (r"(a)\1", "groupref in an expression"),
        (r"\bword", "at_boundary in an expression"),
        ("a++", "possessive_repeat in an expression"),
        ("(?>a|ab)c", "atomic_group in an expression"),
        ("(a)?(?(1)b|c)", "groupref_exists in an expression"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_is_refused(expression: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        node_of(expression)


def test_the_nesting_is_bounded() -> None:
    deep = "(" * 200 + "a*" + ")*" * 200
    with pytest.raises(RefusedError, match="nests 200 groups, at most 64"):
        parse(deep, 64)
    assert dfa_of("(" * 60 + "a" + ")*" * 60).accepts(b"aaa")
    assert nesting(r"\((a)\)") == 1
    assert nesting("[(]((a))") >= 2
    assert nesting(")))(") == 1


def test_a_shortest_text() -> None:
    for expression in ("a{3}|bc", r"[^\n]+@\w+\.x{2,}", "a*", r"\s", "(a|bc){4}", r"[\x00-\x05]b"):
        text = shortest(node_of(expression))
        assert re.fullmatch(expression, text)
        dfa = dfa_of(expression)
        assert len(text) == int(dfa.distances()[0])
    with pytest.raises(TooLargeError):
        shortest(node_of("((a{1000}){1000}){1000}"))
