"""Whatever a compiled schema lets through is JSON of the schema: walks along what is allowed."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import numpy as np
import pytest

pytest.importorskip("llguidance")

from tests.unit.structured_inputs import LIMITS, tiny_vocabulary
from vllm_diffusion.structured.compiled import Compiled
from vllm_diffusion.structured.compiler import Compiler
from vllm_diffusion.structured.constraint import Constraint
from vllm_diffusion.structured.dfa_matcher import (
    ByteDfaMatcher,
    ByteDfaTables,
    TokenDfaMatcher,
    TokenDfaTables,
)
from vllm_diffusion.structured.grammar_matcher import GrammarMatcher
from vllm_diffusion.structured.matcher import Matcher, first_allowed
from vllm_diffusion.structured.token_dfa import automaton_of

STOP = 2
DAY = {"enum": ["monday", "friday"]}
S, INT = {"type": "string"}, {"type": "integer"}
DATE = "date"


def obj(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def matcher_of(found: Compiled) -> Matcher:
    vocabulary = tiny_vocabulary()
    if found.tokens is not None:
        automaton = automaton_of(found.tokens, [STOP])
        return TokenDfaMatcher(TokenDfaTables(automaton, vocabulary.num_words))
    if found.dfa is not None:
        return ByteDfaMatcher(ByteDfaTables(found.dfa, vocabulary), (STOP,))
    assert found.grammar is not None
    return GrammarMatcher(vocabulary, found.grammar, (STOP,), LIMITS, found.hints)


def walked(start: Matcher, rng: random.Random, most: int) -> str:
    """A random text that is ended after a while."""
    vocabulary, matcher = tiny_vocabulary(), start.fork()
    bits, path = np.zeros(vocabulary.num_words, dtype=np.uint32), []
    while not matcher.is_done and len(path) < most:
        matcher.fill(bits)
        allowed = first_allowed(bits, vocabulary.size)
        forced = matcher.forced()
        if forced:
            assert forced[0] in allowed
        token = rng.choice(allowed)
        assert matcher.accept(token)
        path.append(token)
    end = matcher.ending(400)
    assert end is not None
    assert all(matcher.accept(token) for token in end)
    assert matcher.is_done
    return b"".join(vocabulary.spelled[t] for t in (*path, *end) if t != STOP).decode()


SCHEMAS: list[Any] = [
    {"type": "string", "minLength": 2, "maxLength": 4},
    {"enum": ["a b", 'quo"te', 3, None, True, "ü\n", [1, {"a": []}]]},
    {"type": "array", "items": INT, "minItems": 2, "maxItems": 3},
    {"type": ["boolean", "null", "integer"]},
    obj({"name": S, "age": INT, "ok": {"type": "boolean"}}, required=["name"]),
    obj({"a": DAY, "b": DAY, "food": DAY}, anyOf=[{"required": ["a"]}, {"required": ["b"]}]),
    obj({"k": {"enum": ["card", "cash"]}, "number": DAY}, required=["k"], **{
        "if": {"properties": {"k": {"const": "card"}}}, "then": {"required": ["number"]}}),
    obj({"p": {**S, "pattern": '^"$'}}, required=["p"]),
    {**S, "pattern": r"^[\n\t]{2}x$"},
    {**S, "pattern": r"\d"},
    {**S, "pattern": r"^[a-z]+@[a-z]+\.[a-z]{2,}$", "maxLength": 12},
    {**S, "format": DATE},
    {**S, "format": "email"},
    {"type": "integer", "minimum": -12, "maximum": 345},
    {"type": "integer", "minimum": 2**63, "maximum": 2**63 + 9},
    {"type": "integer", "exclusiveMinimum": -3.0, "exclusiveMaximum": 3.0},
    {"type": "number", "minimum": 0.5, "exclusiveMaximum": 3},
    {"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 200},
    {"type": "array", "prefixItems": [INT, S], "items": False},
    {"type": "array", "prefixItems": [INT], "items": DAY, "minItems": 3},
    {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True},
    {"type": "object", "additionalProperties": INT, "minProperties": 1, "maxProperties": 2},
    {"type": "object", "maxProperties": 2.0, "additionalProperties": INT},
    {"type": "object", "patternProperties": {"^x": INT}, "additionalProperties": False},
    {"type": "object", "propertyNames": {"pattern": "^[a-c]+$"}},
    {"type": "object", "properties": {"a": INT}, "required": ["a", "zz"]},
    {"type": "object", "properties": {"a": INT, "b": INT}, "dependentRequired": {"a": ["b"]}},
    {"oneOf": [INT, {"type": "string", "maxLength": 3}]},
    {"oneOf": [obj({"a": DAY}, required=["a"]), obj({"b": DAY}, required=["b"])]},
    {"allOf": [{"type": "object", "properties": {"a": INT}, "required": ["a"]},
               {"properties": {"b": S}, "required": ["b"]}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]},
    {"anyOf": [{**S, "maxLength": 2}, {**S, "minLength": 4, "maxLength": 5}]},
    {"type": "string", "anyOf": [{"maxLength": 2}, {"minLength": 4}]},
    {"not": {"type": ["string", "object", "array"]}},
    {"type": "object", "not": {"required": ["a"]}, "properties": {"a": INT, "b": INT}},
    {"$defs": {"n": obj({"v": INT, "next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}},
                        required=["v", "next"])}, "$ref": "#/$defs/n"},
    {"$defs": {"a/b": {"x~y": DAY}}, "type": "array", "items": {"$ref": "#/$defs/a~1b/x~0y"}},
    {"properties": {"a": INT}},
    {},
    {"minLength": 3, "type": ["string", "null"]},
    {"type": "object", "minProperties": 1},
    {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"d": DAY},
     "type": "object", "properties": {"d": {"$ref": "#/definitions/d"}}, "required": ["d"]},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda value: json.dumps(value)[:70])
def test_every_text_is_valid(schema: Any) -> None:
    rng = random.Random(0)
    cls = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    validator = cls(schema, format_checker=cls.FORMAT_CHECKER)
    compiler = Compiler(tiny_vocabulary(), LIMITS)
    for is_closed in (True, False):
        found = compiler.compile(Constraint("json", json.dumps(schema), is_closed=is_closed))
        start = matcher_of(found)
        for most in (2, 5, 9, 20, 40):
            text = walked(start, rng, most)
            validator.validate(json.loads(text))
