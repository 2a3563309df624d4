"""Schemas of every kind, drawn from a seed; each can be met within some hundred tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

Schema = dict[str, Any]

WORDS = (
    "name",
    "city",
    "émile",
    "数量",
    "ключ",
    "a b",
    "x-1",
    "emoji😀",
    "id",
    "tag",
    "note",
    "ok",
)
PATTERNS = (
    "^[a-c]{3}-[0-9]{4}$",
    "^(red|green|blue)$",
    "^[A-Z][a-z]*$",
    "^\\d{4}-\\d{2}-\\d{2}$",
    "^(ab)+c?$",
    "^[^0-9]{2,5}$",
)


def text(rng: Random, depth: int) -> Schema:
    low = rng.randrange(0, 4)
    kinds: list[Schema] = [
        {"type": "string"},
        {"type": "string", "minLength": low, "maxLength": low + rng.randrange(0, 30)},
        {"type": "string", "maxLength": rng.randrange(20, 60)},
    ]
    return rng.choice(kinds)


def pattern(rng: Random, depth: int) -> Schema:
    return {"type": "string", "pattern": rng.choice(PATTERNS)}


def number(rng: Random, depth: int) -> Schema:
    low = rng.randrange(-50, 50)
    kinds: list[Schema] = [
        {"type": "integer"},
        {"type": "number"},
        {"type": "integer", "minimum": low, "maximum": low + rng.randrange(0, 1000)},
        {"type": "integer", "exclusiveMinimum": low},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "boolean"},
        {"type": "null"},
    ]
    return rng.choice(kinds)


def enum(rng: Random, depth: int) -> Schema:
    values = rng.sample([*WORDS, 3, -7, 2.5, True, None, 'with "quotes"', "line\nbreak"], 3)
    return rng.choice([{"enum": values}, {"const": values[0]}])


def array(rng: Random, depth: int) -> Schema:
    low = rng.randrange(0, 3)
    bounds: list[Schema] = [{}, {"minItems": low}, {"minItems": low, "maxItems": low + 2}]
    if rng.random() < 0.25:
        items = [value(rng, depth - 1) for _ in range(2)]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": 2}
    return {"type": "array", "items": value(rng, depth - 1), **rng.choice(bounds)}


def record(rng: Random, depth: int) -> Schema:
    names = rng.sample(WORDS, rng.randrange(1, 4))
    schema: Schema = {
        "type": "object",
        "properties": {name: value(rng, depth - 1) for name in names},
        "required": names[: rng.randrange(0, len(names) + 1)],
    }
    if rng.random() < 0.7:
        schema["additionalProperties"] = False
    return schema


def union(rng: Random, depth: int) -> Schema:
    return {"anyOf": [value(rng, depth - 1) for _ in range(rng.randrange(2, 4))]}


def tree(rng: Random, depth: int) -> Schema:
    node: Schema = {
        "type": "object",
        "properties": {
            "value": value(rng, 0),
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
        },
        "required": ["value", "children"],
        "additionalProperties": False,
    }
    return {"$ref": "#/$defs/node", "$defs": {"node": node}}


LEAVES: tuple[Callable[[Random, int], Schema], ...] = (text, pattern, number, enum)
KINDS: tuple[Callable[[Random, int], Schema], ...] = (*LEAVES, array, record, union, tree)


def value(rng: Random, depth: int) -> Schema:
    """A schema with at most ``depth`` levels below it."""
    kinds = LEAVES if depth <= 0 else (*LEAVES, array, record, union)
    return rng.choice(kinds)(rng, depth)


def schemas(count: int, seed: int = 0) -> Iterator[Schema]:
    """``count`` schemas, the kinds in turn."""
    for index in range(count):
        rng = Random(f"{seed}/{index}")
        yield KINDS[index % len(KINDS)](rng, 2)
