"""What no body of a request may hold, whatever its fields: found before vLLM reads it.

Python's JSON has NaN, halves of surrogate pairs and integers without end, which fail wherever a
value is first used: in a tokenizer, in a message to the engine. What is nested deeply fails where
something recurses. A look at the bytes tells that most bodies hold none of it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_NESTING = 128
"""Levels of objects and lists; vLLM reads schemas of 64."""
MAX_INT, MIN_INT = 2**64 - 1, -(2**63)
"""What a message to the engine can hold."""
SCHEMAS = frozenset({"json", "schema", "parameters", "input_schema", "structural_tag"})
"""Whose integers are bounds of the text's, and so no numbers that anyone computes with."""

_ODD = re.compile(rb"\\u[dD][89a-fA-F]|NaN|Infinity|\d[eE]\+?\d{2}|\d{19}")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


class BodyError(ValueError):
    """The body cannot be read; ``code`` and ``param`` stand in the response."""

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


def check_body(body: bytes) -> None:
    """Refuse what Python's JSON takes and nothing else does.

    What is no JSON at all is left to FastAPI, which says where.

    Raises:
        BodyError: with the field.
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        message = f"the body is not UTF-8: byte {error.start} begins no character"
        raise BodyError(message, "invalid_json") from None
    if body.count(b"[") + body.count(b"{") > MAX_NESTING and _nesting(body) > MAX_NESTING:
        message = f"the body has more than {MAX_NESTING} levels of objects and lists; flatten it"
        raise BodyError(message, "invalid_json")
    if _ODD.search(body):
        try:
            read = json.loads(body)
        except ValueError as error:
            if isinstance(error, json.JSONDecodeError):
                return
            # An integer of more digits than Python converts.
            raise BodyError("a number of the body has too many digits", "invalid_value") from None
        _check_values(read)


def _nesting(body: bytes) -> int:
    deepest = level = 0
    for bracket in _BRACKETS.findall(_STRING.sub(b"", body)):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest


def _check_values(body: Any) -> None:
    """Walk it; strings, numbers and keys are looked at."""
    left: list[tuple[str, bool, Any]] = [("", False, body)]
    while left:
        path, is_schema, value = left.pop()
        if isinstance(value, str):
            _check_text(path, value)
        elif isinstance(value, float) and not math.isfinite(value):
            message = f"{path}={value}: it must be a finite number"
            raise BodyError(message, "invalid_value", path)
        elif isinstance(value, int) and not is_schema and not MIN_INT <= value <= MAX_INT:
            message = f"{path} is an integer of {value.bit_length()} bits; it must fit into 64"
            raise BodyError(message, "invalid_value", path)
        elif isinstance(value, list):
            left += ((f"{path}[{i}]", is_schema, each) for i, each in enumerate(value))
        elif isinstance(value, dict):
            for key, each in value.items():
                _check_text(f"a name in {path or 'the body'}", key)
                inside = f"{path}.{key}" if path else key
                left.append((inside, is_schema or key in SCHEMAS, each))


def _check_text(path: str, text: str) -> None:
    if any(0xD800 <= ord(char) < 0xE000 for char in text):
        raise BodyError(
            f"{path} holds half of a surrogate pair, which is no character", "invalid_value", path
        )
