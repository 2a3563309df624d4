"""JSON texts against their schemas, by the library ``jsonschema``.

Numbers are read as decimals, schema and text alike: as floats, 0.3 is no multiple of 0.1. Formats
are annotations, as JSON Schema 2020-12 has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal, DecimalException
from functools import lru_cache
from typing import Any

from vllm_diffusion.structured.json_schema.read import subschemas, validator_class
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.validity.pattern import matches

PLAIN = frozenset(
    "type enum const properties required additionalProperties items prefixItems minItems maxItems "
    "minLength maxLength minimum maximum exclusiveMinimum exclusiveMaximum minProperties "
    "maxProperties anyOf allOf oneOf not if then else title description default examples $schema "
    "$id $comment $defs definitions format".split()
)
"""Keywords that look at a value once."""
_VALUES = re.compile(r"[,\[{]")


class InvalidError(ValueError):
    """A text that is not what was asked for; says why without the text."""


class NotCheckedError(ValueError):
    """A check that cannot tell."""


def read_value(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidError: it is no JSON.
        NotCheckedError: Python's reader has a bound that the text is beyond.
    """
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise InvalidError(f"it is no JSON: {error.msg} at character {error.pos}") from error
    except (ValueError, RecursionError) as error:
        raise NotCheckedError(str(error)) from error


def _no_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is no number", name, 0)


def num_values(text: str) -> int:
    """At least as many as the JSON values in a text."""
    return 1 + len(_VALUES.findall(text))


def check_value(spec: str, value: Any) -> None:
    """Validate a value.

    Raises:
        InvalidError: with the keyword that it does not meet, and where.
        NotCheckedError: the library fails at it.
    """
    try:
        error = next(_validator(spec).iter_errors(value), None)
    except (ArithmeticError, DecimalException, RecursionError, re.error, ValueError) as failure:
        raise NotCheckedError(f"{type(failure).__name__}: {failure!s:.200}") from failure
    if error is not None:
        at = "".join(f"/{part}" for part in error.absolute_schema_path)
        raise InvalidError(f"it does not meet the schema's {at[:200] or '/'}")


@lru_cache(maxsize=32)
def _validator(spec: str) -> Any:
    schema = json.loads(spec, parse_float=Decimal)
    return _exact(validator_class(schema))(schema)


@lru_cache(maxsize=8)
def _exact(cls: Any) -> Any:
    """A dialect's validator for decimals, whose patterns take linear time."""
    from jsonschema import validators

    def is_integer(checker: Any, value: Any) -> bool:
        if isinstance(value, Decimal):
            return value.is_finite() and value == value.to_integral_value()
        return bool(cls.TYPE_CHECKER.is_type(value, "integer"))

    return validators.extend(
        cls,
        {
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": _additional_properties,
        },
        type_checker=cls.TYPE_CHECKER.redefine("integer", is_integer),
    )


def _has(pattern: str, text: str) -> bool:
    return matches(pattern, text, Limits(), is_search=True)


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if validator.is_type(value, "string") and not _has(pattern, value):
        yield ValidationError("it does not match the pattern")


def _pattern_properties(validator: Any, patterns: Any, value: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(value, "object"):
        for pattern, inner in patterns.items():
            for name, one in value.items():
                if _has(pattern, name):
                    yield from validator.descend(one, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, inner: Any, value: Any, schema: Any) -> Iterator[Any]:
    if not validator.is_type(value, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, one in value.items():
        if name not in known and not any(_has(pattern, name) for pattern in patterns):
            yield from validator.descend(one, inner, path=name)


@lru_cache(maxsize=32)
def _num_plain(spec: str) -> int | None:
    """How many schemas there are within one that looks at each value once; None for others."""
    return num_plain(json.loads(spec))


def num_plain(schema: Any) -> int | None:
    """As above, of a schema that has been read."""
    count, left = 0, [schema]
    while left:
        node = left.pop()
        count += 1
        if isinstance(node, dict):
            if not PLAIN.issuperset(node):
                return None
            count += len(node.get("enum", ())) >> 4
            left += [child for _, child in subschemas(node)]
    return count


def is_cheap_schema(spec: str, most: int) -> bool:
    """Whether a schema has at most so many schemas, none of which costs more than its values."""
    count = _num_plain(spec)
    return count is not None and count <= most
