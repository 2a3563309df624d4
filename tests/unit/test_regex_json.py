"""Texts within JSON's quotes, and the same sets in the syntax of Rust's expressions."""

from __future__ import annotations

import itertools
import json
import random
import re

import pytest

from tests.unit.structured_inputs import LIMITS, dfa_of, node_of
from vllm_diffusion.structured.regex_ast import Alt, Chars, Node, Repeat, Seq, parse
from vllm_diffusion.structured.regex_dfa import ByteDfa, byte_dfa
from vllm_diffusion.structured.regex_json import FREE, escaped, to_rust

EXPRESSIONS = [
    '"', r"\\", r"[\n\t]{2}x", r"[\x00-\x1f]", "[^a]{1,2}", r'(a|"b")*', "é|\U0001f600", r"\S+@\S",
    "[a-c]{0,3}", r"\x7f", r"[^\x00-\x7f]", "(?s:.){2}", "",
]  # fmt: skip
ALPHABET = ["a", "b", '"', "\\", "\n", "\t", "\0", "\x1f", "\x7f", "é", "\U0001f600", "@", "x"]
SHORT = ["".join(text) for n in range(4) for text in itertools.product(ALPHABET, repeat=n)]


def compiled(node: Node) -> ByteDfa:
    dfa = byte_dfa(node, LIMITS)
    assert dfa is not None
    return dfa


def written(text: str) -> str:
    """As one JSON library writes it: the only spelling that is allowed."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_within_quotes_reads_as_a_text_of_the_expression(expression: str) -> None:
    plain, inside = dfa_of(expression), compiled(escaped(node_of(expression)))
    for text in SHORT:
        assert inside.accepts(written(text).encode()) == plain.accepts(text.encode()), text


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_drawn_texts_are_json(expression: str) -> None:
    rng = random.Random(0)
    node = escaped(node_of(expression))
    for _ in range(50):
        text = drawn(node, rng)
        assert compiled(node).accepts(text.encode())
        value = json.loads(f'"{text}"')
        assert re.fullmatch(expression, value)
        assert written(value) == text


def drawn(node: Node, rng: random.Random) -> str:
    if isinstance(node, Chars):
        return chr(rng.choice([code for span in node.spans for code in span]))
    if isinstance(node, Seq):
        return "".join(drawn(part, rng) for part in node.parts)
    if isinstance(node, Alt):
        return drawn(rng.choice(node.options), rng)
    assert isinstance(node, Repeat)
    high = node.low + 2 if node.high is None else node.high
    return "".join(drawn(node.body, rng) for _ in range(rng.randint(node.low, high)))


def test_free_characters() -> None:
    free = compiled(FREE)
    for code in [*range(0x100), 0x2028, 0xFFFF, 0x10FFFF]:
        text = written(chr(code))
        # A control character without a short escape is not written at all.
        assert free.accepts(text.encode()) == (not text.startswith("\\u"))
    for text in ('"', "\\", "\n", "\\a", "\\u0041", "\\/"):
        assert not free.accepts(text.encode())


def accepted_by_llguidance(rust: str, texts: list[str]) -> list[str]:
    llguidance = pytest.importorskip("llguidance")
    from vllm_diffusion.structured.grammar_matcher import byte_tokenizer

    grammar = llguidance.LLMatcher.grammar_from_regex(rust)
    start = llguidance.LLMatcher(byte_tokenizer(), grammar, log_level=0)
    assert not start.is_error(), start.get_error()
    out = []
    for text in texts:
        matcher = start.deep_copy()
        data = list(text.encode())
        is_read = matcher.validate_tokens(data) == len(data) and matcher.consume_tokens(data)
        if is_read and matcher.is_accepting():
            out.append(text)
    return out


@pytest.mark.parametrize("expression", [*EXPRESSIONS, r"a/b|\(", r"(a{2}|b*){1,2}x?", "[]^-]"])
def test_rusts_syntax_says_the_same(expression: str) -> None:
    dfa = dfa_of(expression)
    texts = [*random.Random(1).sample(SHORT, 300), "a/b", "(", "x", "aax", "]", "^", "-", ""]
    texts += [drawn(node_of(expression), random.Random(seed)) for seed in range(20)]
    found = accepted_by_llguidance(to_rust(node_of(expression)), texts)
    assert found == [text for text in texts if dfa.accepts(text.encode())]


def test_rust_has_no_borders() -> None:
    with pytest.raises(ValueError, match="border"):
        to_rust(parse("^a", 9))
    assert accepted_by_llguidance(to_rust(Alt((Chars(()), Chars(((97, 97),))))), ["a", ""]) == ["a"]
