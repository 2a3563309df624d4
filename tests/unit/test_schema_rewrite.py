"""A rewritten schema holds the same values, by a validator that knows nothing of the rewriting."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import jsonschema
import pytest

from tests.unit.structured_inputs import LIMITS
from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.json_schema.finite import is_finite
from vllm_diffusion.structured.json_schema.read import validator_of
from vllm_diffusion.structured.json_schema.rewrite import KEPT, Rewriter

A = {"enum": ["a", "b"]}
SCALARS: list[Any] = [None, True, False, 0, 1, 2, 3, 4, -1, 1.5, 10, "", "a", "b", "abc", "a1", "é"]
ARRAYS: list[Any] = [[*p] for n in range(4) for p in itertools.product([1, "a", "b"], repeat=n)]
NAMES = ("a", "b", "k")
OBJECTS: list[Any] = [
    dict(zip(names, values, strict=True))
    for n in range(4)
    for names in itertools.combinations(NAMES, n)
    for values in itertools.product(["a", "b", 1], repeat=n)
]
VALUES = [*SCALARS, *ARRAYS, [[]], [None], *OBJECTS, {"a1": 1}, {"a": True}, {"a": 1.0}, {"z": 1}]


def python_patterns(schema: Any) -> Any:
    r"""With ``\x{41}`` as Python writes it."""

    def plain(text: str) -> str:
        return re.sub(r"\\x\{([0-9a-f]+)\}", lambda code: f"\\U{int(code[1], 16):08x}", text)

    if isinstance(schema, list):
        return [python_patterns(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: python_patterns(value) for key, value in schema.items()}
    if isinstance(schema.get("pattern"), str):
        out["pattern"] = plain(schema["pattern"])
    if "patternProperties" in out:
        out["patternProperties"] = {plain(k): v for k, v in out["patternProperties"].items()}
    return out


def rewritten(schema: Any, *, is_closed: bool = False) -> Any:
    return Rewriter(validator_of(schema), LIMITS, is_closed=is_closed).rewrite(schema)


def keywords(schema: Any) -> set[str]:
    """Those of all schemas within, by a walk over what may hold some."""
    if not isinstance(schema, dict):
        return set()
    found = set(schema)
    for key in ("properties", "patternProperties", "$defs", "definitions"):
        found |= {one for part in schema.get(key, {}).values() for one in keywords(part)}
    for key in ("allOf", "anyOf", "oneOf", "prefixItems"):
        found |= {one for part in schema.get(key, ()) for one in keywords(part)}
    for key in ("items", "additionalProperties"):
        found |= keywords(schema.get(key))
    return found


ONE = {"type": "object", "properties": {"a": A, "k": A}}
SCHEMAS: list[Any] = [
    {},
    {"title": "x", "description": "y", "default": 3, "type": "string"},
    {"enum": ["a", "abc", 3, None], "maxLength": 2},
    {"enum": [1, 2, 3, "a"], "type": "integer", "minimum": 2},
    {"const": "a", "$ref": "#/$defs/s", "$defs": {"s": A}},
    {"type": "string", "pattern": "^a"},
    {"type": "string", "pattern": "[0-9]$", "minLength": 2.0},
    {"type": "string", "format": "color"},
    {"patternProperties": {"^a": {"type": "integer"}}},
    {"type": "object", "propertyNames": {"pattern": "^[ab]$"}},
    {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": A},
    {"propertyNames": {"enum": ["a"]}, "properties": {"a": A, "k": A}},
    {"propertyNames": True, "type": "object"},
    {"type": "object", "minProperties": 1},
    {"type": "object", "required": ["a", "b"], "minProperties": 2, "maxProperties": 2},
    {**ONE, "additionalProperties": False, "minProperties": 2},
    {**ONE, "dependentRequired": {"a": ["k"], "k": ["b"]}},
    {"dependentRequired": {"a": ["b"]}},
    {**ONE, "dependentSchemas": {"k": {"properties": {"a": {"const": "b"}}}}},
    {**ONE, "dependentSchemas": {"k": False}},
    {**ONE, "dependencies": {"a": ["k"], "k": {"required": ["b"]}},
     "$schema": "http://json-schema.org/draft-07/schema#"},
    {"not": {"type": "string"}},
    {"not": {"type": ["integer", "number", "object"]}},
    {"not": {"required": ["a"]}},
    {"not": False},
    {"not": {"type": "null", "title": "x"}, "type": ["null", "string"]},
    {**ONE, "if": {"properties": {"k": {"const": "a"}}}, "then": {"required": ["b"]}},
    {**ONE, "if": {"properties": {"k": {"const": "a"}}, "required": ["k"]},
     "then": {"required": ["b"]}, "else": {"properties": {"a": {"const": "b"}}}},
    {**ONE, "if": {"properties": {"k": {"enum": ["a", "b"]}}}, "else": {"required": ["b"]}},
    {**ONE, "if": {"properties": {"k": {"const": "z"}}, "required": ["k"]},
     "then": False, "else": {"required": ["b"]}},
    {**ONE, "if": {"required": ["k"]}, "then": {"required": ["a"]}, "else": {"required": ["b"]}},
    {**ONE, "if": True, "then": {"required": ["a"]}, "else": False},
    {**ONE, "if": False, "then": False},
    {**ONE, "then": False},
    {"type": "object", "properties": {"k": {"enum": [1, 2]}},
     "if": {"properties": {"k": {"const": 1.0}}, "required": ["k"]}, "then": {"required": ["b"]}},
    {"type": "object", "properties": {"k": {"enum": ["a", 1]}},
     "if": {"properties": {"k": {"type": "string", "enum": ["a", 1]}}, "required": ["k"]},
     "then": {"required": ["b"]}},
    {"type": "array", "items": {"enum": [1, "a", "b"]}, "uniqueItems": True, "maxItems": 2},
    {"type": "array", "items": {"enum": [1, "a", "b"]}, "uniqueItems": True, "minItems": 3},
    {"type": "array", "items": {"enum": [1, "a"], "type": "string"}, "uniqueItems": True},
    {"type": "array", "items": {"enum": [1, "a"]}, "uniqueItems": True, "anyOf": [{"minItems": 2}]},
    {"type": "array", "items": {"enum": [1, 1, "a"]}, "uniqueItems": True},
    {"type": "array", "uniqueItems": True, "maxItems": 1},
    {"type": "array", "uniqueItems": False, "minItems": 2.0},
    {"type": "array", "prefixItems": [A, {"type": "integer"}], "items": False},
    {"type": "array", "prefixItems": [A], "unevaluatedItems": False},
    {**ONE, "unevaluatedProperties": False},
    {**ONE, "unevaluatedProperties": False, "additionalProperties": {"type": "integer"}},
    {"anyOf": [{"required": ["a"]}, {"required": ["b"]}], **ONE},
    {"allOf": [{"not": {"required": ["a"]}}, {"minProperties": 1}]},
    {"type": "integer", "minimum": 2, "exclusiveMaximum": 4.0, "multipleOf": 2.0},
    {"$ref": "#/$defs/s", "maxLength": 1, "$defs": {"s": {"type": "string"}}},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_the_same_values(schema: Any) -> None:
    made = rewritten(schema)
    assert keywords(made) <= KEPT
    cls = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    before, after = cls(schema), jsonschema.Draft202012Validator(python_patterns(made))
    found = [value for value in VALUES if after.is_valid(value)]
    assert found == [value for value in VALUES if before.is_valid(value)]


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_closed_objects_hold_some_of_the_values(schema: Any) -> None:
    made = rewritten(schema, is_closed=True)
    cls = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    before, after = cls(schema), jsonschema.Draft202012Validator(python_patterns(made))
    assert all(before.is_valid(value) for value in VALUES if after.is_valid(value))
    assert is_finite(made)


def test_closing() -> None:
    made = rewritten({"properties": {"a": A}, "required": ["a", "z"]}, is_closed=True)
    assert made["additionalProperties"] is False
    assert set(made["properties"]) == {"a", "z"}
    composed = {"allOf": [{"properties": {"a": A}}, {"properties": {"b": A}}]}
    assert "additionalProperties" not in json.dumps(rewritten(composed, is_closed=True))


REFUSED: list[tuple[Any, str, str]] = [
    ({"properties": {"x/y": {"contains": {}}}}, "keyword contains", "/properties/x~1y"),
    ({"items": {"$dynamicRef": "#a"}}, r"the keyword \$dynamicRef", "/items"),
    ({"anyOf": [{}, {"propertyNames": {"minLength": 2}}]}, "propertyNames is", "/anyOf/1"),
    ({"items": {"propertyNames": False}}, "propertyNames is served as", "/items"),
    ({"items": {"enum": ["abc"], "maxLength": 1}}, "no value of enum or const", "/items"),
    ({"$defs": {"d": {"pattern": "(?!a)"}}}, "pattern=.* not regular", r"/\$defs/d"),
    ({"patternProperties": {"a\\b": {}}}, "pattern=", "/patternProperties"),
    ({"items": {"type": "integer", "maximum": 1 << 54}}, "maximum=18014398509481984", "/items"),
    ({"items": {"multipleOf": 0.01}}, "multipleOf=0.01", "/items"),
    ({"items": {"minProperties": 2}}, "minProperties=2", "/items"),
    ({"items": {"uniqueItems": True}}, "uniqueItems is served", "/items"),
    ({"items": {"type": "array", "uniqueItems": True, "items": {"enum": [*range(9)]}}},
     "uniqueItems of 9 values", "/items"),
    ({"items": {"not": True}}, "not=true allows no value", "/items"),
    ({"items": {"not": {"type": "integer"}}}, "not is served with", "/items"),
    ({"items": {"not": {"minimum": 3}}}, "not is served with", "/items"),
    ({"items": {"if": {"type": "string"}, "then": False}}, "if is served for objects", "/items"),
    ({"items": {"type": "object", "if": {"minProperties": 1}, "then": False}},
     "if is served with one property", "/items"),
    ({"items": {"type": "object", "if": {"properties": {"k": {"const": 1}}}, "then": False}},
     "if is served where 'k'", "/items"),
    ({"items": {"$ref": "#/$defs/a", "unevaluatedProperties": False}, "$defs": {"a": {}}},
     "unevaluatedProperties is served as false", "/items"),
    ({"items": {"anyOf": [{}], "unevaluatedItems": False}}, "unevaluatedItems is not", "/items"),
    ({"items": {"dependentRequired": {str(n): [] for n in range(7)}}}, "more than six", "/items"),
    ({"$schema": "http://json-schema.org/draft-07/schema#",
      "properties": {"a": {"items": [{}]}}},
     "prefixItems since draft 2020-12", "/properties/a"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "words", "pointer"), REFUSED, ids=str)
def test_refusals_name_keyword_and_place(schema: Any, words: str, pointer: str) -> None:
    with pytest.raises(RefusedError, match=rf"(?:{words}).*\(at {pointer}\)$"):
        rewritten(schema)
