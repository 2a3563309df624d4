"""A client's schema before anything is made of it: text, dialect, references, sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.structured_inputs import LIMITS
from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.json_schema.circles import check_circles
from vllm_diffusion.structured.json_schema.finite import is_finite
from vllm_diffusion.structured.json_schema.read import (
    check_size,
    is_plain,
    load,
    resolve,
    subschemas,
    validator_of,
)
from vllm_diffusion.structured.limits import Limits, read_limits


@pytest.mark.parametrize("value", [{"a": [1, "[[", '\\"{', None]}, [], "x", 3])
def test_json_is_read(value: Any) -> None:
    assert load(json.dumps(value), replace(LIMITS, nesting=1)) == value


def test_deep_json_is_refused_before_it_is_parsed() -> None:
    limits = replace(LIMITS, nesting=3)
    assert load("[" * 6 + "]" * 6, limits)
    for text in ("[" * 7 + "]" * 7, '{"a":' * 100_000):
        with pytest.raises(RefusedError, match="nests deeper than 3 levels"):
            load(text, limits)
    assert load("[[],[],[],[],[],[],[],[]]", limits)


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "{'a': 1}", "1 2", '"\x01"'])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(RefusedError, match="it is no JSON"):
        load(text, LIMITS)


@pytest.mark.parametrize(
    "dialect",
    [None, "https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#",
     "https://json-schema.org/draft/2019-09/schema", "http://json-schema.org/draft-06/schema"],
)  # fmt: skip
def test_dialects(dialect: str | None) -> None:
    schema = {"type": "integer"} | ({"$schema": dialect} if dialect else {})
    assert validator_of(schema).is_valid(3)
    with pytest.raises(RefusedError, match=r"valid JSON Schema: .*\(at /properties/a/minLength\)"):
        validator_of(schema | {"properties": {"a": {"minLength": -1}}})


@pytest.mark.parametrize(
    "dialect", ["http://json-schema.org/draft-04/schema#", "http://example.org/mine", 5]
)
def test_other_dialects(dialect: Any) -> None:
    with pytest.raises(RefusedError, match=r"\$schema=.* write it in draft 2020-12"):
        validator_of({"$schema": dialect})


@pytest.mark.parametrize(
    "schema",
    [{"maximum": "null"}, {"patternProperties": "null"}, {"then": 1e10}, {"minLength": "x"},
     {"title": {}}, {"$anchor": None}, {"unevaluatedItems": 2147483648}, {"minLength": -1},
     {"dependentSchemas": {"0": 1}}, {"pattern": "("}, {"enum": 5}, {"required": "a"},
     {"type": ["string", "string"]}, {"items": [{}]}, {"multipleOf": 0}],
    ids=str,
)  # fmt: skip
def test_values_that_the_dialect_does_not_allow(schema: Any) -> None:
    with pytest.raises(RefusedError, match="no valid JSON Schema"):
        validator_of(schema)


ROOT: dict[str, Any] = {
    "$defs": {"a/b": {"const": 1}, "c~d": True, "é %": {"const": 2}, "n": 5},
    "prefixItems": [{"const": 3}],
}


@pytest.mark.parametrize(
    ("reference", "found"),
    [("#", ROOT), ("#/$defs/a~1b", {"const": 1}), ("#/$defs/c~0d", True),
     ("#/$defs/%C3%A9%20%25", {"const": 2}), ("#/prefixItems/0", {"const": 3})],
)  # fmt: skip
def test_references(reference: str, found: Any) -> None:
    assert resolve(ROOT, reference, "") == found


@pytest.mark.parametrize(
    ("reference", "words"),
    [("#a", "JSON pointers"), ("other.json#/a", "JSON pointers"), ("", "JSON pointers"),
     ("#/$defs/x", "names no part"), ("#/prefixItems/1", "names no part"),
     ("#/prefixItems/-1", "names no part"), ("#/prefixItems/\u0663", "names no part"),
     ("#/$defs/n", "names no schema"), ("#/prefixItems", "names no schema")],
)  # fmt: skip
def test_references_that_are_not_served(reference: str, words: str) -> None:
    with pytest.raises(RefusedError, match=rf"\$ref=.*{words}.*\(at /here\)"):
        resolve(ROOT, reference, "/here")


def test_sizes() -> None:
    schema: Any = {"type": "null"}
    for _ in range(5):
        schema = {"anyOf": [schema, {"items": schema}]}
    check_size(schema, LIMITS)
    with pytest.raises(RefusedError, match=r"more than 50 schemas.*schema_nodes"):
        check_size(schema, replace(LIMITS, schema_nodes=50))
    with pytest.raises(RefusedError, match=r"deeper than 4 levels.*nesting"):
        check_size(schema, replace(LIMITS, nesting=4))
    with pytest.raises(RefusedError, match=r"\$id within a schema .*\(at /properties/a\)"):
        check_size({"$id": "x", "properties": {"a": {"$id": "y"}}}, LIMITS)
    with pytest.raises(RefusedError, match=r"names no part .*\(at /properties/a~1b/items\)"):
        check_size({"properties": {"a/b": {"items": {"$ref": "#/x"}}}}, LIMITS)


def test_schemas_within_a_schema() -> None:
    names = ["properties", "patternProperties", "$defs", "dependentSchemas"]
    schema: Any = {name: {"x": {"const": name}} for name in names}
    schema |= {name: [{"const": name}] for name in ("allOf", "anyOf", "oneOf", "prefixItems")}
    names += ["allOf", "anyOf", "oneOf", "prefixItems"]
    for name in ("items", "not", "if", "then", "else", "contains", "propertyNames"):
        schema[name] = {"const": name}
        names.append(name)
    schema |= {"enum": [{"items": 1}], "default": {"items": {}}}
    assert sorted(part["const"] for _, part in subschemas(schema)) == sorted(names)
    assert dict(subschemas({"properties": {"a/b~": True}})) == {"properties/a~1b~0": True}


SELF = {"$ref": "#"}
TO_A = {"$ref": "#/$defs/a"}


@pytest.mark.parametrize(
    ("schema", "at"),
    [
        (SELF, ""),
        ({"if": SELF}, ""),  # nothing depends on it, and a validator follows it all the same
        ({"anyOf": [SELF, {"type": "null"}]}, ""),
        ({"properties": {"x": TO_A}, "$defs": {"a": {"not": TO_A}}}, "/properties/x"),
        ({"allOf": [TO_A], "$defs": {"a": {"oneOf": [True, {"$ref": "#/allOf/0"}]}}}, ""),
        ({"dependentSchemas": {"x": SELF}}, ""),
    ],
)
def test_references_that_go_in_circles(schema: Any, at: str) -> None:
    where = rf" \(at {at}\)" if at else ""
    with pytest.raises(RefusedError, match=rf"references go in circles{where}$"):
        check_circles(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": SELF}},
        {"items": SELF, "anyOf": [{"properties": {"b": SELF}}, TO_A], "$defs": {"a": True}},
        {"allOf": [TO_A, TO_A], "$defs": {"a": {"anyOf": [{"type": "null"}, {"items": SELF}]}}},
        {"$defs": {"a": TO_A}},  # nothing refers to it
    ],
)
def test_references_that_lead_into_a_value(schema: Any) -> None:
    check_circles(schema)


def test_references_that_cannot_be_followed() -> None:
    with pytest.raises(RefusedError, match=r"\$dynamicRef is not served .*\(at /items/if\)"):
        check_circles({"items": {"if": {"$dynamicRef": "#a"}}})


def test_a_long_way_of_references() -> None:
    number = 3000
    parts: Any = {str(i): {"$ref": f"#/$defs/{i + 1}"} for i in range(number)}
    parts[str(number)] = {"items": {"$ref": "#/$defs/0"}}
    check_circles({"$ref": "#/$defs/0", "$defs": parts})
    parts[str(number)] = {"$ref": "#/$defs/0"}
    with pytest.raises(RefusedError, match="circles"):
        check_circles({"$ref": "#/$defs/0", "$defs": parts})


FINITE: list[tuple[Any, bool]] = [
    (True, True),
    (False, False),
    (SELF, False),
    ({"type": "object", "properties": {"a": SELF}}, True),
    ({"type": "object", "properties": {"a": SELF}, "required": ["a"]}, False),
    ({"type": "object", "required": ["a"], "additionalProperties": SELF}, False),
    ({"type": "object", "required": ["a"], "additionalProperties": False}, False),
    ({"type": "array", "items": SELF}, True),
    ({"type": "array", "items": SELF, "minItems": 1}, False),
    ({"type": "array", "prefixItems": [SELF], "minItems": 1}, False),
    ({"type": "array", "prefixItems": [{}], "items": SELF, "minItems": 1}, True),
    ({"anyOf": [SELF, {"type": "null"}]}, True),
    ({"anyOf": [SELF, {"type": "array", "items": SELF, "minItems": 2}]}, False),
    ({"allOf": [SELF]}, False),
    ({"type": ["object", "null"], "properties": {"a": SELF}, "required": ["a"]}, True),
    ({"properties": {"a": SELF}, "required": ["a"]}, True),  # a number is no object
    ({"enum": [], "type": "string"}, False),
    ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}, {"const": 1}]},
                "b": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 9}},
      "$ref": "#/$defs/b"}, True),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
     False),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "expected"), FINITE, ids=str)
def test_whether_a_text_is_finite(schema: Any, expected: bool) -> None:
    assert is_finite(schema) == expected


def test_limits_of_a_server() -> None:
    assert read_limits(None) == read_limits({}) == Limits()
    given = {"structured_limits": {"seconds": 1.5, "states": 9}, "other": 1}
    assert read_limits(given) == Limits(seconds=1.5, states=9)
    for value, words in (
        ({"state": 1}, r"structured_limits\.state is not known; known are cache_bytes, "),
        ({"states": 0}, "states=0 must be a positive number"),
        ({"states": True}, "must be a positive number"),
        ({"seconds": "1"}, "must be a positive number"),
        ({"seconds": float("nan")}, "must be a positive number"),
        ([], "must be an object of limits"),
    ):
        with pytest.raises(ValueError, match=words):
            read_limits({"structured_limits": value})


def test_a_refusal_names_the_place() -> None:
    assert str(RefusedError("no", "/a")) == "no (at /a)"
    assert str(RefusedError("no")) == "no"


PLAIN_SCHEMAS: list[Any] = [
    True,
    {"type": "object", "properties": {"a": {"type": "string"}, "b": False}, "required": ["a", "b"]},
    {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 0, "maxItems": 10**20},
    {"additionalProperties": {"const": None}, "title": "", "description": "d", "$comment": "c"},
    {"minimum": -1.5, "maximum": 3, "minLength": 1, "maxLength": 2, "$defs": {"a": {}}},
]
SPOILED: list[tuple[str, Any]] = [
    ("type", "text"),
    ("type", ["string", "string"]),
    ("properties", [{}]),
    ("properties", {"a": 1}),
    ("required", ["a", "a"]),
    ("required", "a"),
    ("required", [1]),
    ("items", 3),
    ("additionalProperties", None),
    ("enum", 1),
    ("minLength", -1),
    ("minLength", True),
    ("maxItems", 1.5),
    ("minimum", "1"),
    ("maximum", False),
    ("title", 3),
    ("pattern", "("),
    ("$defs", {"a": []}),
]


@pytest.mark.parametrize("schema", PLAIN_SCHEMAS)
def test_what_is_plain_is_valid_in_every_dialect(schema: Any) -> None:
    import jsonschema

    assert is_plain(schema)
    for name in ("Draft6Validator", "Draft7Validator", "Draft202012Validator"):
        getattr(jsonschema, name).check_schema(schema)


@pytest.mark.parametrize(("key", "value"), SPOILED)
def test_what_is_not_valid_is_not_plain(key: str, value: Any) -> None:
    assert not is_plain({key: value})
    assert not is_plain({"properties": {"a": {"items": {key: value}}}})


def test_a_deep_schema_is_looked_at_without_recursion() -> None:
    schema: Any = {}
    for _ in range(100_000):
        schema = {"items": schema}
    assert is_plain(schema)
    while schema:  # else its deletion would recurse
        schema = schema.pop("items")
