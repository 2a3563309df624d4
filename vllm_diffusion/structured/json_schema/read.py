"""A client's schema: its size, its dialect, and its references, checked before anything else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from vllm_diffusion.request.quote import quoted
from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.limits import Limits, raise_by

Schema = dict[str, Any]

ANNOTATIONS = frozenset(
    "title description default examples $comment $schema $id id deprecated readOnly writeOnly "
    "contentEncoding contentMediaType contentSchema $vocabulary $anchor $dynamicAnchor".split()
)
"""Keywords that say nothing of a value."""
IN_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
IN_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
IN_ONE = (
    "items additionalProperties not if then else contains propertyNames unevaluatedProperties "
    "unevaluatedItems additionalItems"
).split()
_HALF = re.compile("[\ud800-\udfff]")
OLD = ("draft-03", "draft-04")


def load(text: str, limits: Limits) -> Any:
    """Read JSON that nests no deeper than the limits say.

    Raises:
        RefusedError: it is no JSON, or too deep.
    """
    depth = 0
    in_string = is_escaped = False
    for char in text:
        if in_string:
            in_string, is_escaped = is_escaped or char != '"', char == "\\" and not is_escaped
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > 2 * limits.nesting:
                raise RefusedError(
                    f"it nests deeper than {limits.nesting} levels; {raise_by('nesting')}"
                )
        elif char in "]}":
            depth -= 1
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"it is no JSON: {error}") from error
    # As an escape it may stand anywhere; what reads the value refuses it in other words.
    if "\\ud" in text.lower() and _HALF.search(json.dumps(value, ensure_ascii=False)):
        raise RefusedError("half of a surrogate pair is no character")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def validator_class(schema: Any) -> Any:
    """The library's class for the dialect that a schema names, or draft 2020-12."""
    import jsonschema
    from jsonschema import validators

    return validators.validator_for(schema, default=jsonschema.Draft202012Validator)


def validator_of(schema: Any) -> Any:
    """The library's validator of the schema's dialect, after a check against the meta-schema.

    Raises:
        RefusedError: an unknown dialect, or a keyword whose value it does not allow.
    """
    import jsonschema

    dialect = schema.get("$schema", "") if isinstance(schema, dict) else ""
    if not isinstance(dialect, str) or any(old in dialect for old in OLD):
        raise RefusedError(f"$schema={quoted(dialect)} is not served; write it in draft 2020-12")
    cls = validator_class(schema)
    if dialect and not any(name in dialect for name in ("draft-06", "draft-07", "2019", "2020")):
        raise RefusedError(f"$schema={quoted(dialect)} is not known; write it in draft 2020-12")
    if is_plain(schema):
        return cls(schema)
    try:
        cls.check_schema(schema)
    except jsonschema.SchemaError as error:
        at = "".join(f"/{part}" for part in error.absolute_path)
        raise RefusedError(f"it is no valid JSON Schema: {error.message[:200]}", at) from error
    except RecursionError as error:
        raise RefusedError("it is no valid JSON Schema: its references go in circles") from error
    return cls(schema)


def is_plain(schema: Any) -> bool:
    """Does each keyword have a value that every meta-schema allows? Few are known here.

    The library takes as long for its check as everything else takes for a small schema.
    """
    left = [schema]
    while left:
        node = left.pop()
        if isinstance(node, bool):
            continue
        if not isinstance(node, dict):
            return False
        for key, value in node.items():
            if key in ("properties", "$defs"):
                if not isinstance(value, dict):
                    return False
                left += value.values()
            elif key in ("items", "additionalProperties"):
                left.append(value)
            elif key in ("required", "enum"):
                if not _are_names(value):
                    return False
            elif key not in _PLAIN or not _PLAIN[key](value):
                return False
    return True


def _are_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(name, str) for name in value)
        and len(set(value)) == len(value)
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


_TYPES = ("null", "boolean", "object", "array", "number", "string", "integer")
_PLAIN: dict[str, Callable[[Any], bool]] = {
    "type": lambda value: isinstance(value, str) and value in _TYPES,
    "const": lambda value: True,
    **dict.fromkeys(("title", "description", "$comment"), _is_text),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _is_count),
    **dict.fromkeys(("minimum", "maximum"), _is_number),
}
"""What a value may be, of keywords without schemas."""


def subschemas(node: Schema) -> list[tuple[str, Any]]:
    """The schemas within a schema, and where."""
    out: list[tuple[str, Any]] = []
    for key in IN_MAPS:
        if isinstance(node.get(key), dict):
            out += [(f"{key}/{escape(name)}", value) for name, value in node[key].items()]
    for key in IN_LISTS:
        if isinstance(node.get(key), list):
            out += [(f"{key}/{index}", value) for index, value in enumerate(node[key])]
    for key in IN_ONE:
        if isinstance(node.get(key), (dict, bool)):
            out.append((key, node[key]))
        elif isinstance(node.get(key), list):
            out += [(f"{key}/{index}", value) for index, value in enumerate(node[key])]
    return out


def escape(name: str) -> str:
    """A name as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def resolve(root: Any, reference: str, pointer: str) -> Any:
    """The schema that a local reference names.

    Raises:
        RefusedError: it names none, or is not local.
    """
    if not reference.startswith("#") or (len(reference) > 1 and reference[1] != "/"):
        raise RefusedError(
            f"$ref={quoted(reference)} is not served: references are JSON pointers into the same "
            "schema, such as #/$defs/name",
            pointer,
        )
    from urllib.parse import unquote

    node = root
    for part in unquote(reference[2:]).split("/") if len(reference) > 1 else ():
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isascii() and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            raise RefusedError(f"$ref={quoted(reference)} names no part of the schema", pointer)
    if not isinstance(node, (dict, bool)):
        raise RefusedError(f"$ref={quoted(reference)} names no schema", pointer)
    return node


def check_size(root: Any, limits: Limits) -> None:
    """Count schemas, and look at what each refers to.

    Raises:
        RefusedError: too many, or a reference that is not served.
    """
    left: list[tuple[str, Any, int]] = [("", root, 0)]
    count = 0
    while left:
        pointer, node, depth = left.pop()
        count += 1
        if count > limits.schema_nodes:
            raise RefusedError(
                f"it holds more than {limits.schema_nodes} schemas; {raise_by('schema_nodes')}"
            )
        if depth > limits.nesting:
            raise RefusedError(
                f"it nests deeper than {limits.nesting} levels; {raise_by('nesting')}"
            )
        if not isinstance(node, dict):
            continue
        if "$ref" in node:
            if not isinstance(node["$ref"], str):
                raise RefusedError("it is no valid JSON Schema: $ref is a text", pointer)
            resolve(root, node["$ref"], pointer)
        if pointer and "$id" in node:
            raise RefusedError(
                "$id within a schema is not served; give it a name in $defs", pointer
            )
        left += [(f"{pointer}/{at}", child, depth + 1) for at, child in subschemas(node)]
