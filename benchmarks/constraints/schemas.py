"""Schemas with an answer each, and schemas whose keywords a library may drop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
CODES = [f"{letter}{number:02}" for letter in "ABCDEFGHIJ" for number in range(40)]
COUNTRIES = "Austria Belgium Canada Denmark Egypt France Germany Hungary India Japan Kenya".split()
EMAIL = r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$"
LOREM = (
    "The ferry leaves the harbour at seven, and whoever is late has to wait until the evening. "
    "Tickets are sold on board; dogs travel for nothing, bicycles for two crowns. "
)


def form(**members: Any) -> Schema:
    """An object with these members, all of them required, and no others."""
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


@dataclass(frozen=True, slots=True)
class Task:
    schema: Schema
    answer: Any
    """What a model is made to mean."""


ADDRESS = form(street=TEXT, city=TEXT, code={"type": "string", "pattern": "^[0-9]{5}$"})
TREE: Schema = {
    "type": "object",
    "properties": {"value": {"type": "number"}, "next": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["value"],
    "additionalProperties": False,
}
TASKS = {
    "two members": Task(
        form(name=TEXT, age={"type": "integer", "minimum": 0, "maximum": 150}),
        {"name": "Grace Hopper", "age": 85},
    ),
    "nested": Task(
        form(
            person=form(name=TEXT, home=ADDRESS, work=ADDRESS),
            active={"type": "boolean"},
        ),
        {
            "person": {
                "name": "Ada Lovelace",
                "home": {"street": "12 St James Square", "city": "London", "code": "10115"},
                "work": {"street": "Dorset Street", "city": "London", "code": "20095"},
            },
            "active": True,
        },
    ),
    "enums, 400 codes": Task(
        form(code={"enum": CODES}, land={"enum": COUNTRIES}, more={"enum": ["low", "high", None]}),
        {"code": "F17", "land": "Denmark", "more": None},
    ),
    "arrays": Task(
        form(
            tags={"type": "array", "items": TEXT},
            points={
                "type": "array",
                "items": form(x={"type": "integer"}, y={"type": "integer"}),
                "maxItems": 5,
            },
        ),
        {"tags": ["red", "green", "light blue"], "points": [{"x": 1, "y": 20}, {"x": -3, "y": 4}]},
    ),
    "e-mail pattern": Task(
        form(mail={"type": "string", "pattern": EMAIL}, copy={"type": "string", "pattern": EMAIL}),
        {"mail": "grace.hopper@navy.example.org", "copy": "ada@analytical.example.com"},
    ),
    "strings of 80 and 1,000": Task(
        form(
            title={"type": "string", "minLength": 1, "maxLength": 80},
            body={"type": "string", "maxLength": 1000},
        ),
        {"title": "The ferry", "body": LOREM},
    ),
    "strings, no bound": Task(form(title=TEXT, body=TEXT), {"title": "The ferry", "body": LOREM}),
    "recursive": Task(TREE, {"value": 1.5, "next": [{"value": 2}, {"value": 3, "next": []}]}),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A schema, an instance, and what looks like one."""

    schema: Schema
    right: Any
    wrong: Any


def _name(**more: Any) -> Schema:
    return {"type": "object", "properties": {"a": TEXT, "b": TEXT}} | more


NUMBERS: Schema = {"type": "array", "items": {"type": "integer"}}
PAIRS = {
    "`uniqueItems`": Pair(
        {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}, [1, 2], [1, 1]
    ),
    "`contains`": Pair(NUMBERS | {"contains": {"const": 5}}, [5], [1]),
    "`multipleOf`": Pair({"type": "integer", "multipleOf": 5}, 10, 11),
    "`not`": Pair({"type": ["string", "integer"], "not": {"type": "integer"}}, "x", 1),
    "`if`, `then`": Pair(
        form(a={"enum": ["x", "y"]}, b=TEXT)
        | {
            "if": {"properties": {"a": {"const": "x"}}},
            "then": {"properties": {"b": {"const": "z"}}},
        },
        {"a": "x", "b": "z"},
        {"a": "x", "b": "no"},
    ),
    "`dependentRequired`": Pair(
        _name(dependentRequired={"a": ["b"]}), {"a": "", "b": ""}, {"a": ""}
    ),
    "`required` without `properties`": Pair(
        {"type": "object", "required": ["a"]}, {"a": 1}, {"b": 1}
    ),
    "`propertyNames`": Pair(
        {
            "type": "object",
            "additionalProperties": TEXT,
            "propertyNames": {"enum": ["a", "b"]},
        },
        {"a": ""},
        {"c": ""},
    ),
    "`anyOf` beside `properties`": Pair(
        _name(anyOf=[{"required": ["a"]}, {"required": ["b"]}]), {"a": ""}, {}
    ),
    "`allOf`": Pair(
        {"allOf": [form(a=TEXT), {"properties": {"a": {"const": "x"}}}]}, {"a": "x"}, {"a": "no"}
    ),
    "`oneOf` that overlap": Pair(
        {"oneOf": [{"type": "integer"}, {"type": "integer", "minimum": 10}]}, 5, 15
    ),
    "`enum` beside `type`": Pair({"type": "string", "enum": ["a", 1]}, "a", 1),
    "`$ref` beside `maxLength`": Pair(
        {"$ref": "#/$defs/t", "maxLength": 2, "$defs": {"t": TEXT}}, "ab", "abc"
    ),
    "`pattern` beside `maxLength`": Pair(
        {"type": "string", "pattern": "^a+$", "maxLength": 2}, "aa", "aaa"
    ),
    "`format` beside `maxLength`": Pair(
        {"type": "string", "format": "email", "maxLength": 8}, "a@bc.de", "grace@navy.org"
    ),
    "`pattern` with look-ahead": Pair({"type": "string", "pattern": "^(?!no).{2}$"}, "ok", "no"),
    "`pattern` without anchors": Pair({"type": "string", "pattern": "[0-9]"}, "a1b", "ab"),
}
