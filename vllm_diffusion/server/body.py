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

_ODD = (b"\\ud", b"\\uD", b"NaN", b"Infinity")
_EXPONENT = re.compile(rb"[eE]\+?\d\d")
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19
_SURROGATE = re.compile("[\ud800-\udfff]")


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
    may_nest = body.count(b"[") + body.count(b"{") > MAX_NESTING
    is_odd = (
        any(part in body for part in _ODD)
        or _LONG_NUMBER in body.translate(_AS_ZEROS)
        or _EXPONENT.search(body) is not None
    )
    if not may_nest and not is_odd:
        return
    try:
        read = json.loads(body)
        is_deep = may_nest and _is_deep(read)
    except json.JSONDecodeError:
        return
    except RecursionError:
        is_deep = True
    except ValueError:  # an integer of more digits than Python converts
        raise BodyError("a number of the body has too many digits", "invalid_value") from None
    if is_deep:
        message = f"the body has more than {MAX_NESTING} levels of objects and lists; flatten it"
        raise BodyError(message, "invalid_json")
    if is_odd:
        _check_values(read)


def _is_deep(body: Any) -> bool:
    level = [body] if isinstance(body, (dict, list)) else []
    for _ in range(MAX_NESTING):
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


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
    if _SURROGATE.search(text):
        raise BodyError(
            f"{path} holds half of a surrogate pair, which is no character", "invalid_value", path
        )
