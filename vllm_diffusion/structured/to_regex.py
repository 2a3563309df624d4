"""Which constraints are regular languages, as expressions for ``regex_dfa``.

A regular expression, a choice, a flat JSON schema: for these a block's exact distribution is known
(``posterior``). Whatever is not told here for certain is left to the grammar's matcher alone.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_LENGTH = 64
"""Longest string, and most items, that are counted out: each is states of its own."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_CHOICE = re.compile(rf"\s*root ::= ({_QUOTED}(?: \| {_QUOTED})*)\s*")
_CHARACTER = r'(?:[^"\\\x00-\x1F]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})'
_INTEGER = r"-?(?:0|[1-9][0-9]*)"
_SCALARS = {
    "integer": _INTEGER,
    "number": rf"{_INTEGER}(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?",
    "boolean": "(?:true|false)",
    "null": "null",
}
_NOTES = {"title", "description", "default", "examples", "$schema", "$id"}
"""Keywords that say nothing of a value."""


def of_choices(grammar: str) -> str | None:
    """The expression of an EBNF that is a choice of texts, as vLLM writes one for xgrammar."""
    found = _CHOICE.fullmatch(grammar)
    if found is None:
        return None
    try:
        texts = [json.loads(quoted) for quoted in re.findall(_QUOTED, found[1])]
    except json.JSONDecodeError:
        return None
    return of_texts(texts)


def of_texts(texts: list[str]) -> str:
    """The expression that matches each of the texts."""
    return "|".join(f"(?:{re.escape(text)})" for text in texts)


def of_schema(schema: Any, separators: tuple[str, str], *, is_closed: bool) -> str | None:
    """The expression of the JSON that a flat schema allows; None where it is not one.

    Args:
        schema: of objects and arrays in each other, whose members are all required.
        separators: behind items and keys.
        is_closed: whether objects that do not say have no properties but theirs.
    """
    if not isinstance(schema, dict):
        return None
    asked = {key: value for key, value in schema.items() if key not in _NOTES}
    if "const" in asked or "enum" in asked:
        if set(asked) - {"const", "enum", "type"} or {"const", "enum"} <= set(asked):
            return None
        values = asked.get("enum", [asked.get("const")])
        if any(isinstance(value, (dict, list)) for value in values):
            return None
        return "(?:" + "|".join(re.escape(_dumps(value)) for value in values) + ")"
    if set(asked) == {"anyOf"}:
        return _union(asked["anyOf"], separators, is_closed=is_closed)
    kind = asked.pop("type", None)
    if isinstance(kind, list):
        kinds = [asked | {"type": one} for one in kind]
        return _union(kinds, separators, is_closed=is_closed) if not asked else None
    if not isinstance(kind, str):
        return None
    if kind in _SCALARS:
        return None if asked else _SCALARS[kind]
    if kind == "string":
        return _string(asked)
    if kind == "array":
        return _array(asked, separators, is_closed=is_closed)
    if kind == "object":
        return _object(asked, separators, is_closed=is_closed)
    return None


def _union(schemas: Any, separators: tuple[str, str], *, is_closed: bool) -> str | None:
    if not isinstance(schemas, list) or not schemas:
        return None
    options = [of_schema(schema, separators, is_closed=is_closed) for schema in schemas]
    known = [option for option in options if option is not None]
    return "(?:" + "|".join(known) + ")" if len(known) == len(options) else None


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _count(asked: dict[str, Any], least: str, most: str) -> tuple[int, int | None] | None:
    low, high = asked.pop(least, 0), asked.pop(most, None)
    for bound in (low, high):
        if bound is not None and (type(bound) is not int or not 0 <= bound <= MAX_LENGTH):
            return None
    return None if asked or (high is not None and high < low) else (low, high)


def _string(asked: dict[str, Any]) -> str | None:
    bounds = _count(asked, "minLength", "maxLength")
    if bounds is None:
        return None
    low, high = bounds
    return f'"{_CHARACTER}{{{low},{"" if high is None else high}}}"'


def _array(asked: dict[str, Any], separators: tuple[str, str], *, is_closed: bool) -> str | None:
    item = of_schema(asked.pop("items", None), separators, is_closed=is_closed)
    bounds = _count(asked, "minItems", "maxItems")
    if item is None or bounds is None:
        return None
    low, high = bounds
    if high == 0:
        return r"\[\]"
    most = "" if high is None else high - 1
    items = f"{item}(?:{re.escape(separators[0])}{item}){{{max(low - 1, 0)},{most}}}"
    return rf"\[{items}\]" if low else rf"\[(?:{items})?\]"


def _object(asked: dict[str, Any], separators: tuple[str, str], *, is_closed: bool) -> str | None:
    properties = asked.pop("properties", None)
    is_closed = is_closed or asked.get("additionalProperties") is False
    additional = asked.pop("additionalProperties", False)
    required = asked.pop("required", [])
    if asked or additional is not False or not is_closed or not isinstance(properties, dict):
        return None
    if not properties or not isinstance(required, list) or set(properties) != set(required):
        return None
    members = []
    for name, schema in properties.items():
        value = of_schema(schema, separators, is_closed=is_closed)
        if value is None:
            return None
        members.append(re.escape(_dumps(name) + separators[1]) + value)
    return r"\{" + re.escape(separators[0]).join(members) + r"\}"
