"""What each constraint becomes, and what is refused: by name, and before anything is spent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

pytest.importorskip("llguidance")

from tests.unit.structured_inputs import LIMITS, tiny_vocabulary
from vllm_diffusion.request.lexical import LexicalConstraints
from vllm_diffusion.structured.compiled import Compiled
from vllm_diffusion.structured.compiler import Compiler
from vllm_diffusion.structured.constraint import Constraint, RefusedError
from vllm_diffusion.structured.lexical import spec_of
from vllm_diffusion.structured.limits import Limits

DAY = {"enum": ["monday", "friday"]}
S = {"type": "string"}


def obj(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": 1}
    return schema


def tag(content: dict[str, Any]) -> dict[str, Any]:
    return {"format": {"type": "tag", "begin": "<tool_call>", "content": content,
                       "end": "</tool_call>"}}  # fmt: skip


def compiled(kind: Any, spec: Any, limits: Limits = LIMITS, **more: Any) -> Compiled:
    text = spec if isinstance(spec, str) else json.dumps(spec)
    return Compiler(tiny_vocabulary(), limits).compile(Constraint(kind, text, **more))


def ending_of(found: Compiled) -> str:
    return b"".join(tiny_vocabulary().spelled[token] for token in found.ending).decode()


def mechanism(found: Compiled) -> str:
    parts = {"tokens": found.tokens, "dfa": found.dfa, "grammar": found.grammar,
             "lexical": found.lexical}  # fmt: skip
    (name,) = [name for name, part in parts.items() if part is not None]
    return name


SCHEMAS: list[tuple[Any, str]] = [
    (obj({"u": {"enum": ["é", "ß"]}}, required=["u"]), "tokens"),
    (obj({"p": {**S, "pattern": '^"$'}}, required=["p"]), "tokens"),
    ({**S, "pattern": r"^\n$"}, "tokens"),
    ({**S, "pattern": r"^[\n\t]{2}x$"}, "tokens"),
    ({"type": "integer", "minimum": 0, "maximum": 10**20}, "tokens"),
    ({"type": "integer", "minimum": 2**63, "maximum": 2**63 + 9}, "tokens"),
    ({**obj({"a": {**S, "maxLength": 20}}, required=["a"]), "title": "f"}, "tokens"),
    ({**S, "pattern": r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$"}, "tokens"),
    ({**S, "pattern": "^[0-9]+-[0-9]+-[0-9]+-z$"}, "tokens"),
    ({**S, "pattern": r"^\S+@\S+\.\S+$"}, "tokens"),
    (nested(26), "tokens"),
    ({"const": "friday"}, "tokens"),
    ({"const": "friday", "maxLength": 6}, "grammar"),
    ({"$defs": {"s": {"enum": ["mon", "friday"]}}, "$ref": "#/$defs/s", "maxLength": 3}, "grammar"),
    (obj({"a": DAY, "b": DAY}, anyOf=[{"required": ["a"]}, {"required": ["b"]}]), "grammar"),
    (obj({"a": {"type": "integer"}}, required=["a"]), "tokens"),
    ({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a", "zz"]},
     "grammar"),
    ({"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}},
      "$ref": "#/$defs/n"}, "grammar"),
    ({}, "grammar"),
    (True, "grammar"),
    (obj({f"field{i}": S for i in range(100)}), "grammar"),
    ({**S, "format": "date"}, "grammar"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "kind"), SCHEMAS, ids=lambda value: str(value)[:60])
def test_schemas(schema: Any, kind: str) -> None:
    found = compiled("json", schema)
    assert mechanism(found) == kind
    assert found.is_shortest == (kind == "tokens")
    jsonschema.Draft202012Validator(schema).validate(json.loads(ending_of(found)))


def test_separators_of_the_server() -> None:
    schema = obj({"a": DAY, "b": {"type": "array", "items": DAY, "minItems": 2}},
                 required=["a", "b"])  # fmt: skip
    tight = compiled("json", schema, separators=(",", ":"))
    loose = compiled("json", {**schema, "minProperties": 2})
    assert ending_of(tight) in ('{"a":"monday","b":["monday","monday"]}',
                                '{"a":"friday","b":["friday","friday"]}')  # fmt: skip
    assert '"b": [' in ending_of(loose)
    assert '", "' in ending_of(loose)


def test_objects_that_do_not_say_are_closed_where_the_server_closes_them() -> None:
    schema = {"type": "object", "properties": {"a": DAY}, "required": ["a"]}
    assert mechanism(compiled("json", schema)) == "tokens"
    assert mechanism(compiled("json", schema, is_closed=False)) == "grammar"


OTHERS: list[tuple[str, Any, str]] = [
    ("json_object", "true", "grammar"),
    ("regex", r"\d{3}-\d{4}", "tokens"),
    ("regex", "x(é|e\u0301)*\U0001f600\U0001f600", "tokens"),
    ("regex", "(?:[^a]{1,2}[^b]{0,2}){300}", "grammar"),
    ("regex", "(.*a.{12})", "grammar"),
    ("regex", "a{2000}", "tokens"),
    ("choice", ["yes", "no way", "é", ""], "tokens"),
    ("choice", [f"item{i:06}" for i in range(2000)], "tokens"),
    ("grammar", 'root ::= "a" b\nb ::= "c" | "(" b ")"', "grammar"),
    ("grammar", 'start: "a" b\nb: "c" | "(" b ")"', "grammar"),
    ("structural_tag", tag({"type": "json_schema", "json_schema": obj({"a": DAY})}), "tokens"),
    ("structural_tag", tag({"type": "json_schema", "json_schema": {}}), "grammar"),
    ("lexical", spec_of(LexicalConstraints(keywords=("k", "-'\u03a9"))), "tokens"),
    ("lexical", spec_of(LexicalConstraints(keywords=("k",), min_chars=9)), "lexical"),
]


@pytest.mark.parametrize(("kind", "spec", "expected"), OTHERS, ids=lambda v: str(v)[:40])
def test_other_kinds(kind: str, spec: Any, expected: str) -> None:
    assert mechanism(compiled(kind, spec)) == expected


REFUSED: list[tuple[str, Any, str]] = [
    ("json", {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
     "no text of it is finite"),
    ("json", {"$ref": "#"}, "no text of it is finite"),
    ("json", {"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "no text of it is"),
    ("json", {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"},
                                             "b": {"$ref": "#/$defs/a"}}}, "no text of it is"),
    ("json", False, "a schema is an object, and this is False"),
    ("json", {"oneOf": [{"minimum": 3}, {"maximum": 9}]}, "oneOf"),
    ("json", "[1", "it is no JSON"),
    ("json", '{"maximum": NaN}', "NaN is no JSON number"),
    ("json", {"enum": []}, "no text of it is finite|valid JSON Schema"),
    ("json", {**S, "minLength": -1}, r"valid JSON Schema: -1 .* \(at /minLength\)"),
    ("json", {"type": "strin"}, r"valid JSON Schema.* \(at /type\)"),
    ("json", obj({"a": {"$ref": "#/$defs/a"}}), r"names no part .*\(at /properties/a\)"),
    ("json", {"$ref": "https://example.org/s"}, "is not served: references are JSON pointers"),
    ("json", {"const": "friday", "maxLength": 3}, "no value of enum or const meets"),
    ("json", {"$defs": {"s": DAY}, "$ref": "#/$defs/s", "maxLength": 3}, "."),
    ("json", {**S, "pattern": r"^(?=.*\d)[a-z0-9]{4,8}$"}, "pattern=.* is not regular"),
    ("json", {**S, "pattern": r"^\cA$"}, "not a 'regex'"),
    ("json", {"type": "array", "contains": S}, "the keyword contains is not served"),
    ("json", obj({"k": {"enum": ["card"]}, "n": S}, **{
        "if": {"properties": {"k": {"pattern": "c"}}}, "then": {"required": ["n"]}}),
     "if is served where 'k' has an enum"),
    ("json", nested(80), "nests deeper than 64 levels"),
    ("json", "[" * 100_000, "nests deeper than 64 levels"),
    ("json", {**S, "title": "x" * (1 << 18)}, "bytes, at most 262144 are read.*spec_bytes"),
    ("json", {"$schema": "http://json-schema.org/draft-04/schema#"}, "write it in draft 2020-12"),
    ("regex", "(" * 200 + "a*" + ")*" * 200, "nests 200 groups, at most 64"),
    ("regex", "(", "cannot be read"),
    ("regex", "\ud800", "half of a surrogate pair"),
    ("regex", "a(?!b)", "not regular"),
    ("regex", "a{5000}", "no text of at most 4096 tokens.*end_tokens"),
    ("choice", [], "choice is a list of texts"),
    ("choice", "5", "choice is a list of texts"),
    ("grammar", "root ::= a\na ::= b\nb ::= a", "."),
    ("grammar", 'root ::= "a" root', "."),
    ("grammar", "  ", "the grammar is empty"),
    ("grammar", "root ::= [", "."),
    ("structural_tag", {"format": {"type": "grammar", "grammar": "x"}}, "cannot be read"),
    ("structural_tag", {}, "a structural tag has a format"),
    ("structural_tag", tag({"type": "json_schema", "json_schema": {"$ref": "#"}}), "finite"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spec", "words"), REFUSED, ids=lambda v: str(v)[:40])
def test_refusals(kind: str, spec: Any, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        compiled(kind, spec)
    assert len(str(caught.value)) < 700


def test_bounds_name_the_option_that_raises_them() -> None:
    for bound, value, schema in (("spec_bytes", 10, {"type": "null"}), ("nesting", 2, nested(4)),
                                 ("schema_nodes", 3, nested(4))):  # fmt: skip
        with pytest.raises(RefusedError, match=f'"structured_limits": {{"{bound}"'):
            compiled("json", schema, replace(LIMITS, **{bound: value}))


def test_a_smaller_bound_takes_the_next_mechanism() -> None:
    schema = obj({"a": {**S, "maxLength": 20}}, required=["a"])
    assert mechanism(compiled("json", schema)) == "tokens"
    assert mechanism(compiled("json", schema, replace(LIMITS, edges=50))) == "dfa"
    assert mechanism(compiled("json", schema, replace(LIMITS, states=50))) == "grammar"
    digests = {
        compiled("json", schema, limits).digest
        for limits in (LIMITS, replace(LIMITS, edges=50), replace(LIMITS, states=50))
    }
    assert len(digests) == 3  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("choice", '["\\ud800"]'),
        ("json", '{"properties": {"\\ud800": {}}, "minProperties": 0}'),
        ("json", '{"const": "\\udfff", "maxLength": 3}'),
        ("structural_tag", {"format": {"type": "tags_with_separator", "separator": 5, "tags": [
            {"begin": "a", "content": {"type": "const_string", "value": "x"}, "end": "b"}]}}),
    ],
    ids=str,
)  # fmt: skip
def test_what_only_a_library_minds(kind: str, spec: Any) -> None:
    """Half of a surrogate pair may be written as an escape; a separator is a text."""
    with pytest.raises(RefusedError, match=r"surrogate|separator=5"):
        compiled(kind, spec)
