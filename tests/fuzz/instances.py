"""Is a JSON text valid against a schema? An independent judge.

``jsonschema`` for the draft that the schema names, 2020-12 where it names none, without checks of
formats, which are annotations, and with two repairs:

* numbers are decimals, so that ``multipleOf: 0.1`` is exact;
* patterns are read as ECMA-262 has them. Where Python's flavours differ (what ``\\d`` and ``\\s``
  are), one that finds a match is enough: the judge must not blame what can be argued about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

import referencing.exceptions
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, _WrappedReferencingError
from jsonschema.validators import extend, validator_for


def _is_number(_: Any, value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_integer(checker: Any, value: Any) -> bool:
    return _is_number(checker, value) and _is_finite(value) and value == int(value)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float | Decimal) or Decimal(value).is_finite()


def _multiple_of(_: Any, divisor: Any, value: Any, __: Any) -> Iterator[ValidationError]:
    if not _is_number(None, value) or not _is_number(None, divisor):
        return
    if (_fraction(value) / _fraction(divisor)).denominator != 1:
        yield ValidationError(f"{value} is not a multiple of {divisor}")


def _fraction(value: Any) -> Fraction:
    """As it was written: a float is its shortest decimal."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


@lru_cache(1024)
def ecma(pattern: str) -> tuple[re.Pattern[str], ...]:
    """The expression in Python's syntax, once for each flavour."""
    # Python's `$` also matches before a final line break, ECMA's does not.
    said = re.sub(r"(\\.|\[(?:\\.|[^\]\\])*\])|\$", lambda m: m[1] or r"\Z", pattern, flags=re.S)
    said = re.sub(r"\\c([A-Za-z])", lambda m: f"\\x{ord(m[1]) % 32:02x}", said)
    for name, letters in PROPERTIES.items():
        said = re.sub(rf"\\p\{{{name}\}}", letters, said)
    return (re.compile(said), re.compile(said, re.ASCII))


PROPERTIES = {"Letter": r"[^\\W\\d_]", "L": r"[^\\W\\d_]", "digit": r"\\d", "Nd": r"\\d"}


def matches(pattern: str, text: str) -> bool:
    return any(one.search(text) for one in ecma(pattern))


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: dict[str, Any], value: Any, _: Any
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for pattern, schema in patterns.items():
        for name, member in value.items():
            if matches(pattern, name):
                yield from validator.descend(member, schema, path=name, schema_path=pattern)


def validator_of(schema: Any) -> Any:
    """The judge of one schema."""
    return _repaired(validator_for(schema, default=Draft202012Validator))(schema)


@cache
def _repaired(draft: Any) -> Any:
    """What ``jsonschema`` has for a draft, with the repairs."""
    return extend(
        draft,
        {
            "multipleOf": _multiple_of,
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
        },
        type_checker=draft.TYPE_CHECKER.redefine_many(
            {"number": _is_number, "integer": _is_integer}
        ),
    )


UNRESOLVED = (_WrappedReferencingError, referencing.exceptions.Unresolvable)


class NoSchemaError(Exception):
    """The schema says nothing that a text could be held to."""


def load(text: str) -> Any:
    """JSON as RFC 8259 has it.

    Raises:
        ValueError: it is not; ``NaN`` and ``Infinity`` are not.
    """

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_float=_number, parse_constant=refuse)


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond the library's own
        return Decimal("-Infinity" if text.startswith("-") else "Infinity")


def exact(value: Any) -> Any:
    """The same JSON with decimals in the place of floats."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {name: exact(member) for name, member in value.items()}
    return [exact(member) for member in value] if isinstance(value, list) else value


def check_schema(schema: Any) -> None:
    """Raises ``NoSchemaError`` where the meta-schema refuses it."""
    try:
        # Not ``check_schema``, which has patterns compiled by Python.
        meta = validator_of(schema).META_SCHEMA
        error = next(validator_for(meta)(meta).iter_errors(schema), None)
    except RecursionError:
        raise NoSchemaError("nested too deeply for the judge") from None
    except Exception as error:
        # An odd ``$id`` or ``$ref`` trips the library that resolves them.
        raise NoSchemaError(f"{type(error).__name__}: {error}"[:200]) from None
    if error is not None:
        raise NoSchemaError(error.message[:200])


def problem(schema: Any, text: str) -> str | None:
    """Why the text is not an instance; none if it is one.

    Raises:
        NoSchemaError: the schema is none, or refers to nothing, or to itself without end.
    """
    check_schema(schema)
    try:
        instance = load(text)
    except ValueError as error:
        return f"not JSON: {error}"
    return instance_problem(schema, instance)


def instance_problem(schema: Any, instance: Any) -> str | None:
    """As ``problem``, of an instance."""
    try:
        error = next(validator_of(exact(schema)).iter_errors(instance), None)
    except (*UNRESOLVED, AttributeError) as reason:
        raise NoSchemaError(f"a reference to nothing: {reason}"[:200]) from None
    except RecursionError:
        raise NoSchemaError("a reference that comes back to itself") from None
    except re.error as reason:
        raise NoSchemaError(f"a pattern that Python cannot read: {reason}") from None
    if error is None:
        return None
    where = "/".join(str(step) for step in error.absolute_path)
    return f"at /{where}: {error.message}"[:300]
