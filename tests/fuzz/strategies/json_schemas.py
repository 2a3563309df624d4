"""JSON schemas: as clients write them, of every keyword, and such as are none."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.strategies import texts
from tests.fuzz.strategies.regexes import PATTERNS
from tests.structured.suite import groups

Schemas = st.SearchStrategy[Any]

FORMATS = (
    "date time date-time duration email hostname ipv4 ipv6 uuid uri uri-reference regex".split()
)
TYPES = "string integer number boolean null array object".split()


@st.composite
def ordinary_leaf(draw: st.DrawFn) -> dict[str, Any]:
    """One field of a form."""
    low = draw(st.integers(0, 20))
    high = low + draw(st.integers(0, 60))
    return draw(
        st.sampled_from(
            [
                {"type": "string"},
                {"type": "string", "description": "what it is", "title": "Name"},
                {"type": "string", "maxLength": high + 1},
                {"type": "string", "minLength": min(low, 5), "maxLength": 40},
                {"type": "string", "pattern": draw(st.sampled_from(PATTERNS))},
                {"type": "string", "format": draw(st.sampled_from(FORMATS))},
                {"type": "string", "enum": ["low", "medium", "high"]},
                {"enum": draw(st.lists(texts.scalars, min_size=1, max_size=5))},
                {"const": draw(texts.scalars)},
                {"type": "integer"},
                {"type": "integer", "minimum": low, "maximum": high},
                {"type": "number", "exclusiveMinimum": low},
                {"type": "number", "multipleOf": draw(st.sampled_from([1, 5, 0.5, 0.01]))},
                {"type": "boolean", "default": False},
                {"type": "null"},
                {"type": ["string", "null"]},
                {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                {"type": "array", "items": {"type": "string"}, "maxItems": 4},
            ]
        )
    )


@st.composite
def ordinary(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    """A form of forms, as pydantic and zod write them."""
    names = draw(st.lists(texts.ordinary_names, min_size=1, max_size=4, unique=True))
    properties = {}
    for name in names:
        is_deep = depth > 0 and draw(st.integers(0, 3)) == 0
        member = draw(ordinary(depth - 1) if is_deep else ordinary_leaf())
        as_list = draw(st.integers(0, 5)) == 0
        properties[name] = {"type": "array", "items": member, "maxItems": 3} if as_list else member
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if draw(st.booleans()):
        schema["required"] = names[: draw(st.integers(0, len(names)))]
    if draw(st.integers(0, 2)):
        schema["additionalProperties"] = False
    if draw(st.integers(0, 4)) == 0:
        # As pydantic does with a class of its own.
        schema["$defs"] = {"Part": draw(ordinary_leaf())}
        schema["properties"]["part"] = {"$ref": "#/$defs/Part"}
    return schema


ASSERTIONS: dict[str, Schemas] = {
    "type": st.one_of(st.sampled_from(TYPES), st.lists(st.sampled_from(TYPES), max_size=3)),
    "enum": st.lists(texts.values, max_size=4),
    "const": texts.values,
    "multipleOf": st.sampled_from([1, 2, 7, 0.1, 0.01, 1e-8, 3.5, 10**20]),
    "maximum": texts.numbers,
    "minimum": texts.numbers,
    "exclusiveMaximum": texts.numbers,
    "exclusiveMinimum": texts.numbers,
    "maxLength": texts.small,
    "minLength": texts.small,
    "pattern": st.sampled_from(PATTERNS),
    "format": st.sampled_from(FORMATS),
    "maxItems": texts.small,
    "minItems": texts.small,
    "uniqueItems": st.booleans(),
    "maxContains": texts.small,
    "minContains": texts.small,
    "maxProperties": texts.small,
    "minProperties": texts.small,
    "required": st.lists(texts.names, max_size=3, unique=True),
    "dependentRequired": st.dictionaries(
        texts.names, st.lists(texts.names, max_size=2, unique=True), max_size=2
    ),
    "title": texts.words,
    "default": texts.scalars,
    "examples": st.lists(texts.scalars, max_size=2),
    "deprecated": st.booleans(),
    "readOnly": st.booleans(),
    "contentMediaType": st.just("application/json"),
    "contentEncoding": st.just("base64"),
    "$comment": texts.words,
    "$anchor": st.just("here"),
    "$id": st.sampled_from(["urn:x", "http://example.com/s", "other"]),
    "$ref": st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#here", "#/nowhere", "urn:y"]),
    "$dynamicRef": st.just("#here"),
    "$dynamicAnchor": st.just("here"),
    "$schema": st.sampled_from(
        [
            "https://json-schema.org/draft/2020-12/schema",
            "http://json-schema.org/draft-07/schema#",
        ]
    ),
}


def applicators(inner: Schemas) -> dict[str, Schemas]:
    """Keywords with schemas in them."""
    one = st.lists(inner, min_size=1, max_size=3)
    by_name = st.dictionaries(texts.names, inner, max_size=3)
    return {
        "properties": by_name,
        "patternProperties": st.dictionaries(st.sampled_from(PATTERNS), inner, max_size=2),
        "additionalProperties": st.one_of(st.booleans(), inner),
        "propertyNames": inner,
        "items": st.one_of(st.booleans(), inner),
        "prefixItems": one,
        "contains": inner,
        "allOf": one,
        "anyOf": one,
        "oneOf": one,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "dependentSchemas": by_name,
        "unevaluatedItems": st.one_of(st.booleans(), inner),
        "unevaluatedProperties": st.one_of(st.booleans(), inner),
        "$defs": st.fixed_dictionaries({"a": inner, "b": inner}),
        "definitions": by_name,
        "contentSchema": inner,
    }


def _some_of(keywords: dict[str, Schemas], most: int) -> Schemas:
    """An object of a few of these."""
    chosen = st.lists(st.sampled_from(sorted(keywords)), min_size=1, max_size=most, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({n: keywords[n] for n in names}))


def keyword_schemas() -> Schemas:
    """Any keywords together, whether or not they agree."""
    leaves = st.one_of(_some_of(ASSERTIONS, 4), ordinary_leaf(), st.booleans())
    return st.recursive(
        leaves, lambda inner: _some_of(ASSERTIONS | applicators(inner), 4), max_leaves=6
    )


@st.composite
def broken(draw: st.DrawFn) -> Any:
    """A schema with a keyword of a wrong type."""
    schema = dict(draw(ordinary_leaf()))
    every = sorted(ASSERTIONS | applicators(st.just({})))
    schema[draw(st.sampled_from(every))] = draw(texts.hostile)
    return schema


def _tower(depth: int, kind: str) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        if kind == "array":
            schema = {"type": "array", "items": schema}
        elif kind == "object":
            schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
        else:
            schema = {"anyOf": [schema, {"type": "null"}]}
    return schema


HOSTILE: list[Any] = [
    *(_tower(depth, kind) for depth in (5, 40, 150) for kind in ("array", "object", "anyOf")),
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"$ref": "#"}}},
    {"$ref": "#"},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    {"type": "string", "minLength": 100000},
    {"type": "string", "maxLength": 10**9},
    {"type": "array", "items": {"type": "integer"}, "minItems": 5000},
    {"enum": [f"value {n}" for n in range(3000)]},
    {"enum": ["é", "ß"]},
    {"type": "object", "properties": {"u": {"enum": ["é", "ß"]}}, "required": ["u"]},
    {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(300)}},
    {"type": "object", "properties": {f"p{n}": {} for n in range(60)}, "required": ["p59"]},
    {"type": "string", "pattern": "^\\n$"},
    {"type": "string", "pattern": '^"$'},
    {"type": "string", "pattern": "^(a|b)*\\\\$"},
    {"type": "string", "pattern": "^(?=a)b$"},
    {"type": "string", "pattern": "^[^@]+@[^@]+\\.[^@]+$"},
    {"type": "string", "pattern": "("},
    {"type": "integer", "minimum": 0, "maximum": 10**20},
    {"type": "integer", "minimum": 5, "maximum": 4},
    {"type": "integer", "multipleOf": 7, "minimum": 8, "maximum": 13},
    {"type": "number", "multipleOf": 0},
    {"not": {}},
    False,
    True,
    {},
    {"anyOf": []},
    {"type": "string", "not": {"const": ""}},
    {"properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {"type": "integer"}]},
    {"type": "object", "required": ["a", "b"]},
    {"if": {"properties": {"a": {"const": 1}}}, "then": {"required": ["b"]}, "type": "object"},
]


def schemas() -> Schemas:
    """All kinds; those that clients send most often."""
    suite = st.sampled_from([group.schema for group in groups()])
    return st.one_of(
        ordinary(), ordinary(), keyword_schemas(), broken(), st.sampled_from(HOSTILE), suite
    )


@st.composite
def schema_cases(draw: st.DrawFn) -> Case:
    schema = draw(schemas())
    body: dict[str, Any] = {
        "max_tokens": draw(st.sampled_from([64, 200, 400])),
        "temperature": draw(st.sampled_from([0, 0, 1.0, 1.5])),
        "seed": draw(st.integers(0, 99)),
    }
    if draw(st.integers(0, 5)) == 0:
        body["stream"] = True
    if draw(st.integers(0, 4)) == 0:
        body["vllm_xargs"] = draw(
            st.sampled_from([{"diffusion_max_steps": 2}, {"diffusion_threshold": 0.5}])
        )
    if draw(st.booleans()):
        body |= {"prompt": draw(texts.prompts), "structured_outputs": {"json": schema}}
        return Case("schema", "/v1/completions", body, {"json": schema})
    form = {"name": "form", "schema": schema}
    if draw(st.booleans()):
        form["strict"] = True
    body["messages"] = [{"role": "user", "content": draw(texts.prompts)}]
    body["response_format"] = {"type": "json_schema", "json_schema": form}
    return Case("schema", "/v1/chat/completions", body, {"json": schema})
