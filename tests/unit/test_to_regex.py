"""Constraints as regular expressions, against Python's own reading of the same constraint."""

from __future__ import annotations

import json
import random
import re

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_diffusion.structured.regex_dfa import TooLargeError, byte_table
from vllm_diffusion.structured.to_regex import of_choices, of_schema
from vllm_diffusion.structured.token_dfa import Automaton, over_tokens

PRINTABLE = [bytes([byte]) for byte in range(0x20, 0x7F)]
SPELLED = [*PRINTABLE, "é".encode(), b"\n", b"\t", b'", "', b'": ', b"true", b"<stop>"]
STOP = len(SPELLED) - 1
SPACED = (", ", ": ")


def obj(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(properties)}


FLAT = [
    {"type": "string", "minLength": 2, "maxLength": 4},
    {"enum": ["a b", 'quo"te', 3, None, True, "ü\n"]},
    {"const": "only. [this]"},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3},
    {"type": "array", "items": {"type": "boolean"}},
    {"type": "array", "items": {"type": "null"}, "minItems": 1},
    {"type": "array", "items": {"type": "null"}, "maxItems": 0},
    {"type": ["boolean", "null"]},
    {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Optional"},
    obj(name={"type": "string"}, age={"type": "integer"}, ok={"type": "boolean", "title": "Ok"}),
    obj(**{"a.b": {"type": "number"}, "in": obj(x={"type": "null"})}) | {"$id": "any"},
]
NOT_FLAT = [
    {},
    True,
    {"type": ["string", "null"], "minLength": 3},
    {"anyOf": [{"type": "null"}, {"type": "object"}]},
    {"anyOf": []},
    {"type": "integer", "minimum": 3},
    {"type": "string", "pattern": "a+"},
    {"type": "string", "maxLength": 65},
    {"type": "array"},
    {"type": "object"},
    {"enum": [[1]]},
    {"type": "object", "properties": {"a": {"type": "null"}}},
    obj(a={"type": "null"}) | {"additionalProperties": True},
    obj(a={"$ref": "#"}),
]


PYTHON = [
    "a|ab|abb",
    "[^a]*",
    "[^-a]+|.{2}",
    r"\d+(?:-\w*)?",
    r"[\u07f0-\u0900]{1,2}",
    "[\u20a0-\U0001f650]",
    r"\S\s\D?",
    r"(?:[^\"\\\\]|\\\\.){0,3}",
    "(?:ab?){2,}?",
    "(a|b|)c?",
]


def matches(regex: str, text: str, **flags: bool) -> bool:
    table, is_final = byte_table(regex, **flags)
    state = 0
    for byte in text.encode():
        state = int(table[state, byte])
    return bool(is_final[state])


def random_text(automaton: Automaton, rng: random.Random) -> str:
    """A walk that heads for the end after a while."""
    state, out = automaton.start, b""
    for at in range(400):
        edges = (automaton.src_E == state).nonzero()[0]
        if at > 30:
            ahead = automaton.distance_N[automaton.dst_E[edges]]
            edges = edges[ahead == ahead.min()]
        edge = rng.choice(list(edges))
        token = rng.choice(list((automaton.class_V == automaton.class_E[edge]).nonzero()[0]))
        if token == STOP:
            return out.decode()
        out += SPELLED[token]
        state = int(automaton.dst_E[edge])
    raise AssertionError("the walk does not end")


@pytest.mark.parametrize("schema", FLAT, ids=json.dumps)
def test_what_the_automaton_spells_is_what_the_schema_allows(schema):
    regex = of_schema(schema, SPACED, is_closed=True)
    assert regex is not None
    automaton = over_tokens(*byte_table(regex), SPELLED, [STOP], [])
    rng = random.Random(0)
    texts = [random_text(automaton, rng) for _ in range(60)]
    for text in texts:
        value = json.loads(text)
        jsonschema.validate(value, schema)
        # Numbers may be written in several ways; and escapes.
        if "\\" not in text and "number" not in json.dumps(schema):
            assert text.replace("-0", "0") == json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, 'a "quoted" \\ é \u20ac \U0001f600 \n'),
        ({"type": "number"}, -12.5e-7),
        ({"type": "integer"}, 0),
        (FLAT[3], [1, -2]),
        (FLAT[4], []),
        (FLAT[9], {"name": "", "age": 10**20, "ok": False}),
        (FLAT[10], {"a.b": 0.1, "in": {"x": None}}),
    ],
)
def test_valid_json_is_matched_in_both_spellings(schema, value):
    for separators in (SPACED, (",", ":")):
        regex = of_schema(schema, separators, is_closed=True)
        assert regex is not None
        for ascii_only in (True, False):
            text = json.dumps(value, separators=separators, ensure_ascii=ascii_only)
            assert matches(regex, text)
            assert not matches(regex, text + " ")


@pytest.mark.parametrize("schema", NOT_FLAT, ids=json.dumps)
def test_other_schemas_are_left_to_the_matcher(schema):
    assert of_schema(schema, SPACED, is_closed=True) is None


def test_an_object_that_may_hold_more_is_left_to_the_matcher():
    schema = obj(a={"type": "null"})
    assert of_schema(schema, SPACED, is_closed=False) is None
    assert of_schema(schema | {"additionalProperties": False}, SPACED, is_closed=False) is not None


def test_choices_are_read_back():
    choices = ["yes", "no way", 'a "b" | "c"', "\\d+", "tab\t", "line\n", "é", "\x7f"]
    # As vLLM writes them: JSON's escapes.
    quoted = [json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f") for text in choices]
    regex = of_choices("root ::= " + " | ".join(quoted))
    assert regex is not None
    for choice in choices:
        assert matches(regex, choice)
    assert not matches(regex, "1")
    assert not matches(regex, "yesno way")


@pytest.mark.parametrize(
    "grammar", ['root ::= "a" b\nb ::= "c"', 'root ::= "a"+', "root ::= [a-z]"]
)
def test_other_grammars_are_no_choices(grammar):
    assert of_choices(grammar) is None


@pytest.mark.parametrize(
    ("regex", "text", "expected"),
    [
        (r"^\d{2}$", "12", True),
        (r"\d", "\u0663", False),  # a digit of another script
        (r"\w+", "é", False),
        (r"[\w-]+", "a-b_", True),
        (r"[^\d]", "x", True),
        (r"[^\d]", "7", False),
        (r"\D", "7", False),
        (r"a.b", "a\nb", True),
        (r"a|ab", "ab", True),
        (r"\$\$", "$$", True),
        (r"[[]x", "[x", True),
        (r"\\d", "\\d", True),
        (r"\s", "\u00a0", True),
    ],
)
def test_expressions_mean_what_xgrammar_takes_them_for(regex, text, expected):
    import xgrammar

    spelled = [bytes([byte]) for byte in range(256)]
    info = xgrammar.TokenizerInfo(spelled, stop_token_ids=[0])
    compiled = xgrammar.GrammarCompiler(info).compile_regex(regex)
    matcher = xgrammar.GrammarMatcher(compiled, override_stop_tokens=[0])
    assert (matcher.accept_string(text) and matcher.accept_token(0)) == expected
    assert matches(regex, text, dot_all=True) == expected


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PYTHON), st.data())
def test_the_automaton_over_bytes_matches_what_python_matches(regex, data):
    alphabet = st.sampled_from(
        'ab1-_" \\né\u07ff\u0800\u20ac\ud7ff\ue000\uffff\U0001f600\U0010ffff'
    )
    text = data.draw(st.one_of(st.text(alphabet, max_size=6), st.from_regex(regex, fullmatch=True)))
    # Surrogates are no text, and to xgrammar a no-break space is space.
    if any("\ud800" <= char <= "\udfff" or char == "\u00a0" for char in text):
        return
    assert matches(regex, text) == bool(re.fullmatch(regex, text, flags=re.ASCII))


@pytest.mark.parametrize("regex", [r"a(?=b)", r"(a)\1", r"\bword", "a^b", r"(?<!a)b"])
def test_what_is_not_regular_is_refused(regex):
    with pytest.raises(ValueError, match="not regular"):
        byte_table(regex)


def test_what_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="unterminated"):
        byte_table("(")
    with pytest.raises(ValueError, match="more than ASCII"):
        byte_table(r"\d", has_ascii_classes=False)


@pytest.mark.parametrize("regex", ["(a|b)*a(a|b){15}", "(?:.{1000}){1000}", "a{100000}"])
def test_an_automaton_has_bounds(regex):
    with pytest.raises(TooLargeError, match="more than"):
        byte_table(regex)


def test_bounded_strings_make_small_automata():
    regex = of_schema({"type": "string", "maxLength": 64}, SPACED, is_closed=True)
    assert regex is not None
    table, _ = byte_table(regex)
    assert len(table) < 2000
