"""Constraints as regular expressions, against Python's own reading of the same constraint."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.structured_inputs import LIMITS, random_path, spelled_by, vocabulary_of
from vllm_diffusion.structured.constraint import TooLargeError
from vllm_diffusion.structured.json_schema.to_regex import NotRegularError, ToRegex, integers
from vllm_diffusion.structured.regex_dfa import ByteDfa, byte_dfa
from vllm_diffusion.structured.token_dfa import automaton_of, over_tokens

PRINTABLE = [bytes([byte]) for byte in range(0x20, 0x7F)]
SPELLED = [*PRINTABLE, "é".encode(), b"\n", b"\t", b'", "', b'": ', b"true", b"<stop>"]
SPELLED += [bytes([byte]) for byte in range(0x80, 0xC0)] + [b"\xc3", b"\xe2", b"\xf0"]
STOP = SPELLED.index(b"<stop>")
VOCABULARY = vocabulary_of(SPELLED, [STOP])
SPACED = (", ", ": ")


def made(schema: Any, separators: tuple[str, str] = SPACED, *, is_closed: bool = True) -> ByteDfa:
    node = ToRegex(schema, separators, LIMITS, is_closed=is_closed).of(schema)
    dfa = byte_dfa(node, LIMITS)
    assert dfa is not None
    return dfa


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
    {"type": "string", "pattern": "^a+\\\\?$"},
    {"type": "string", "pattern": "[0-9]$", "title": "x"},
    {"type": "integer", "minimum": -3, "exclusiveMaximum": 120},
    {
        "type": "array",
        "prefixItems": [{"type": "null"}, {"type": "integer"}],
        "items": False,
        "minItems": 2,
    },
    {"oneOf": [{"type": "null"}, {"type": "string", "maxLength": 2}]},
    {
        "type": "object",
        "properties": {"a": {"type": "null"}, "b": {"const": 1}, "c": {"const": 2}},
        "required": ["b"],
    },
    {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": False}},
    {"$defs": {"d": {"enum": [1, 2]}}, "type": "array", "items": {"$ref": "#/$defs/d"}},
    {"enum": ["a", "b"], "type": "string"},
    {"allOf": [{"type": "boolean"}]},
]
NOT_FLAT: list[Any] = [
    {},
    True,
    {"type": ["string", "null"], "minLength": 3},
    {"anyOf": [{"type": "null"}, {"type": "object"}]},
    {"type": "number", "minimum": 3},
    {"type": "integer", "multipleOf": 3},
    {"type": "integer", "minimum": 3, "maximum": 2},
    {"type": "integer", "minimum": 0.5},
    {"type": "string", "pattern": "a(?=b)"},
    {"type": "string", "pattern": "a+", "maxLength": 3},
    {"type": "string", "format": "date"},
    {"type": "string", "maxLength": 513},
    {"type": "string", "minLength": 3, "maxLength": 2},
    {"type": "array"},
    {"type": "array", "items": {"const": 1}, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"const": 1}]},
    {"type": "object"},
    {"enum": [1, "a"], "type": "string"},
    {"enum": [1, 2], "minimum": 2},
    {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    {"oneOf": [{"type": "integer"}, {"enum": [1]}]},
    {"anyOf": [{"const": 1}], "type": "integer"},
    {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]},
    {"type": "object", "properties": {f"{n}": {"type": "null"} for n in range(25)}},
    obj(a={"type": "null"}) | {"additionalProperties": True},
    obj(a={"type": "null"}) | {"minProperties": 1},
    obj(a={"$ref": "#"}),
    {"$ref": "#/$defs/a", "$defs": {"a": {"const": 1}}, "maximum": 1},
]


@pytest.mark.parametrize("schema", FLAT, ids=json.dumps)
def test_what_the_automaton_spells_is_what_the_schema_allows(schema: Any) -> None:
    tokens = over_tokens(made(schema), VOCABULARY, LIMITS, is_cut=False)
    automaton = automaton_of(tokens, [STOP])
    rng = random.Random(0)
    for _ in range(60):
        text = spelled_by(VOCABULARY, random_path(automaton, rng)).decode()
        value = json.loads(text)
        jsonschema.validate(value, schema)
        # Numbers may be written in several ways.
        if "number" not in json.dumps(schema):
            assert text == json.dumps(value, ensure_ascii=False)


VALUES: list[Any] = [
    None, True, 0, 3, 119, 120, -3, -4, "", "a", "aa\\", "b1", "x" * 5, [], [1], [2, 1], [1, 2, 3],
    [None, 7], {}, {"a": None}, {"b": 1}, {"a": None, "b": 1}, {"a": None, "b": 1, "c": 2},
    {"a": 1}, {"a": 1, "b": 2}, {"b": 2}, {"c": 2}, "a b", 'quo"te', "ü\n",
]  # fmt: skip


@pytest.mark.parametrize("schema", [s for s in FLAT if "$id" not in s], ids=json.dumps)
@pytest.mark.parametrize("separators", [SPACED, (",", ":")])
def test_all_valid_values_are_allowed(schema: Any, separators: tuple[str, str]) -> None:
    """With the properties in the schema's order, and no others."""
    known = list(schema.get("properties", ())) if isinstance(schema, dict) else []
    dfa, validator = made(schema, separators), jsonschema.Draft202012Validator(schema)
    for value in VALUES:
        text = json.dumps(value, ensure_ascii=False, separators=separators)
        is_closed = not isinstance(value, dict) or set(value) <= set(known)
        assert dfa.accepts(text.encode()) == (validator.is_valid(value) and is_closed), text
        assert not dfa.accepts(text.encode() + b" ")


@pytest.mark.parametrize("schema", NOT_FLAT, ids=json.dumps)
def test_other_schemas_are_left_to_the_matcher(schema: Any) -> None:
    with pytest.raises(NotRegularError):
        made(schema)


def test_an_object_that_may_hold_more_is_left_to_the_matcher() -> None:
    schema = obj(a={"type": "null"})
    with pytest.raises(NotRegularError):
        made(schema, is_closed=False)
    assert made(schema | {"additionalProperties": False}, is_closed=False)


BOUNDS = st.none() | st.integers(-1200, 1200)


@given(BOUNDS, BOUNDS)
def test_integers_between_bounds(low: int | None, high: int | None) -> None:
    if low is not None and high is not None and low > high:
        with pytest.raises(NotRegularError):
            integers(low, high)
        return
    dfa = byte_dfa(integers(low, high), LIMITS)
    assert dfa is not None
    near = {0, 1, 9, 10, 99, 100, 999, 1000, 12345, *range(-30, 30)}
    near |= {bound + n for bound in (low or 0, high or 0) for n in range(-12, 13)}
    for number in near | {-number for number in near}:
        is_in = (low is None or low <= number) and (high is None or number <= high)
        assert dfa.accepts(str(number).encode()) == is_in, number
    for text in ("-0", "00", "01", "", "-", "+1", "1.0"):
        assert not dfa.accepts(text.encode())


def test_integers_beyond_a_machine_word() -> None:
    dfa = made({"type": "integer", "minimum": 0, "maximum": 10**20})
    assert dfa.accepts(b"100000000000000000000")
    assert dfa.accepts(b"99999999999999999999")
    assert not dfa.accepts(b"100000000000000000001")


def test_deep_schemas_are_large_or_refused_at_once() -> None:
    def nested(levels: int) -> Any:
        schema: Any = {"type": "integer"}
        for _ in range(levels):
            schema = {"type": "array", "items": schema}
        return schema

    assert made(nested(5)).dead < 500
    # Each level holds the one within twice.
    start = time.process_time()
    with pytest.raises(TooLargeError):
        made(nested(60))
    assert time.process_time() - start < 2.0
    assert made({"type": "string", "maxLength": 64}).dead < 2000
    assert made(obj(**{f"field{n}": {"type": "string"} for n in range(60)})).dead < 2000
