"""Constraints that are refused, by the compiler itself: with torch and llguidance.

Nothing whose text is a library's own, which is another with another version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.refusals.decode import named
from tests.refusals.record import Case
from tests.unit.structured_inputs import LIMITS, tiny_vocabulary
from vllm_diffusion.request.lexical import LexicalConstraints
from vllm_diffusion.structured.compiler import Compiler
from vllm_diffusion.structured.constraint import Constraint
from vllm_diffusion.structured.lexical import spec_of
from vllm_diffusion.structured.limits import Limits

FOLDERS = ("structured/compiler.py", "structured/json_schema", "structured/structural_tag.py",
           "structured/qwen_xml.py", "structured/grammar_text.py",
           "structured/regex_ast.py")  # fmt: skip
OBJECT = {"type": "object"}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema, "minItems": 1}
    return schema


SCHEMAS: list[Any] = [
    "{", '{"a": NaN}', '"\\ud800"', "5", "[]", "false",
    "[" * 200, nested(80),
    {"properties": {str(n): {} for n in range(20000)}},
    {"$schema": 5}, {"$schema": "http://json-schema.org/draft-04/schema#"}, {"$schema": "mine"},
    {"properties": {"a": {"$ref": "other.json"}}},
    {"properties": {"a": {"$ref": "#/$defs/b"}}},
    {"properties": {"a": {"$ref": "#/title"}}, "title": "x"},
    {"properties": {"a": {"$id": "x"}}},
    {"$ref": "#"},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"properties": {"x/y": {"contains": {}}}},
    {"items": {"$dynamicRef": "#a"}},
    {"anyOf": [{}, {"propertyNames": {"minLength": 2}}]},
    {"items": {"propertyNames": False}},
    {"items": {"enum": ["abc"], "maxLength": 1}},
    {"patternProperties": {"(?!a)": {}}},
    {"properties": {"a": {"type": ["string", "object"], "pattern": "(?=a)"}}},
    {"items": {"type": "integer", "maximum": 1 << 54}},
    {"items": {"multipleOf": 0.01}},
    {"items": {"minProperties": 2}},
    {"items": {"uniqueItems": True}},
    {"items": {"type": "array", "uniqueItems": True, "items": {"enum": [*range(9)]}}},
    {"items": {"not": True}},
    {"items": {"not": {"minimum": 3}}},
    {"items": {"if": {"type": "string"}, "then": False}},
    {"items": {**OBJECT, "if": {"minProperties": 1}, "then": False}},
    {"items": {**OBJECT, "if": {"properties": {"k": {"const": 1}}}, "then": False}},
    {"items": {"$ref": "#/$defs/a", "unevaluatedProperties": False}, "$defs": {"a": {}}},
    {"items": {"anyOf": [{}], "unevaluatedItems": False}},
    {"items": {"dependentRequired": {str(n): [] for n in range(7)}}},
    {"$schema": DRAFT_7, "properties": {"a": {"items": [{}]}}},
    {"items": {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}},
    {"type": "string", "minLength": 5000},
]  # fmt: skip

REGEXES = [
    "(?=a)", "(?<!a)b", r"\bword", r"(a)\1", "(?i)a", "a^b", "a$b", "(a", r"\ud800", "\ud800",
    "(" * 300, "(?:(a)?)+" * 3 + r"\b", "[^\\x00-\\U0010ffff]", "a" * 70000,
]  # fmt: skip

TEXT = {"type": "const_string", "value": "a"}
TAG = {"type": "tag", "begin": "<f>", "content": {"type": "any_text"}, "end": "</f>"}
FORMATS: list[Any] = [
    5, {}, {"structures": [5]}, {"structures": [{"begin": 5}]},
    *({"format": one} for one in (
        {}, {"type": 5}, {"type": "colour"}, {"type": "const_string"},
        {"type": "sequence", "elements": []}, {"type": "sequence", "elements": [5]},
        {"type": "or", "elements": "x"},
        {"type": "sequence", "elements": [TEXT] * 3000},
        {**TAG, "begin": None}, {**TAG, "end": 5}, {**TAG, "end": [5]},
        {"type": "tags_with_separator", "tags": [], "separator": ","},
        {"type": "tags_with_separator", "tags": [5], "separator": ","},
        {"type": "tags_with_separator", "tags": [TAG], "separator": 5},
        {"type": "json_schema", "json_schema": {}, "style": "xml"},
        {"type": "repeat", "content": TEXT, "min": 3, "max": 2},
        {"type": "repeat", "content": TEXT, "min": 0, "max": 9999},
        {"type": "any_text", "max_tokens": 5},
        {"type": "any_text", "excludes": [5]},
        {"type": "any_text", "max_chars": -1},
        {"type": "any_text", "max_chars": "a"},
        {"type": "dispatch", "rules": [["a"]]},
        {"type": "dispatch", "rules": []},
        {"type": "json_schema", "json_schema": {}, "excludes": ["a"]},
        {"type": "grammar", "grammar": " "},
        {"type": "grammar", "grammar": "start: ("},
        {"type": "triggered_tags", "triggers": [5], "tags": [TAG]},
        {"type": "triggered_tags", "triggers": ["x"], "tags": [TAG]},
        {"type": "triggered_tags", "triggers": [], "tags": [TAG]},
    )),
]  # fmt: skip

INNER = {"type": "object", "properties": {}, "additionalProperties": False}
QWEN: list[Any] = [
    {**INNER, "minProperties": 1},
    {**INNER, "required": ["a"]},
    *({**INNER, "properties": {name: schema}} for name, schema in (
        ("a>b", {"type": "string"}),
        ("a", {"$ref": "#/$defs/b", "type": "string"}),
        ("a", {"type": "string", "minLength": 3}),
        ("a", {"anyOf": [{"type": "string"}] * 99}),
        ("a", {"enum": ["</parameter>"]}),
        ("a", {"type": "array"}),
        ("a", {"type": "object"}),
        ("a", {"type": "array", "items": {"type": "string", "pattern": "b"}}),
        ("a", {"type": "array", "items": {"type": ["string", "null"]}}),
    )),
]  # fmt: skip
FORMATS += [{"format": {"type": "qwen_xml_parameter", "json_schema": schema}} for schema in QWEN]

OTHERS: list[tuple[str, str]] = [
    ("choice", "[]"), ("choice", "5"), ("choice", "[5]"), ("choice", '["\\ud800"]'),
    ("grammar", " "),
    ("lexical", spec_of(LexicalConstraints(keywords=("abc", "xyz"), max_chars=5))),
]  # fmt: skip

NARROW: list[tuple[str, Any, Limits]] = [
    ("regex", "a+", Limits(spec_bytes=1)),
    ("json", {"properties": {"a": {}}}, Limits(schema_nodes=1)),
    ("json", nested(4), Limits(nesting=2)),
    ("regex", "a{500}", Limits(end_tokens=4)),
]


def _call(kind: Any, spec: Any, limits: Limits = LIMITS) -> Any:
    text = spec if isinstance(spec, str) else json.dumps(spec)
    return Compiler(tiny_vocabulary(), limits).compile(Constraint(kind, text))


def cases(_: Path) -> Iterator[Case]:
    every = [("json", one) for one in SCHEMAS] + [("regex", one) for one in REGEXES]
    every += [("structural_tag", one) for one in FORMATS] + OTHERS
    for kind, spec in every:
        yield Case(f"{kind}: {named(spec)}", partial(_call, kind, spec))
    for kind, spec, limits in NARROW:
        said = {key: getattr(limits, key) for key in limits.__slots__
                if getattr(limits, key) != getattr(LIMITS, key)}  # fmt: skip
        yield Case(f"{kind} within {said}: {named(spec)}", partial(_call, kind, spec, limits))
