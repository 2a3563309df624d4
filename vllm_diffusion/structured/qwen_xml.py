"""Arguments of calls as Qwen's coder models write them: ``<parameter=name>value</parameter>``.

Texts stand there as they are, up to the first end of a parameter; everything else as JSON. A
parser cuts a value off at that end, so JSON within one has no ``<`` in its strings.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from vllm_diffusion.request.quote import quoted
from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.json_schema.read import (
    ANNOTATIONS,
    IN_LISTS,
    IN_MAPS,
    IN_ONE,
    Schema,
    resolve,
)

END = "</parameter>"
STYLES = ("qwen_xml",)
PLAIN = "^[^<]*$"
"""What free strings within JSON are."""
_OBJECT = {"type", "properties", "required", "additionalProperties", "$defs", "definitions"}
_FREE = {"type"}
_OPTIONS = {"anyOf", "oneOf"}
MOST_OPTIONS = 64

Rule = Callable[..., str]


def is_xml(node: Schema) -> bool:
    """Is it a format of this style?"""
    return node.get("type") == "qwen_xml_parameter" or node.get("style") in STYLES


class QwenXml:
    """The rules of one object's parameters.

    Args:
        root: the object's schema.
        of_schema: what stands behind ``%json``; checks the schema.
        rule: adds a rule, and names it.
        until: adds a rule of any text and the first of its ends, and names it.
    """

    def __init__(
        self,
        root: Any,
        of_schema: Callable[[Any], str],
        rule: Rule,
        until: Callable[[list[str], list[str]], str],
    ) -> None:
        self.root, self.of_schema, self.rule, self.until = root, of_schema, rule, until

    def grammar(self) -> str:
        """The name of the rule of all parameters, in their order."""
        self.of_schema(self.root)  # raises what is no schema, or has no text
        schema = self._resolved(self.root)
        unknown = set(schema) - _OBJECT - ANNOTATIONS
        if unknown or schema.get("type", "object") != "object":
            raise _refused(f"has {quoted(min(unknown, default='type'))} beside its properties")
        properties, required = schema.get("properties", {}), set(schema.get("required", ()))
        if not required <= set(properties):
            raise _refused(f"requires {quoted(min(required - set(properties)))}, no property of it")
        parts = []
        for name, value in properties.items():
            if value is False and name not in required:
                continue
            if not name or set(name) & set("<>\n"):
                raise _refused(f"names a property {quoted(name)}")
            begin = json.dumps(f"<parameter={name}>")
            part = f'"\\n"? {begin} ({" | ".join(self._ways(value, 0))})'
            parts.append(part if name in required else f"({part})?")
        return self.rule(" ".join(parts) or '""')

    def _resolved(self, schema: Any) -> Schema:
        seen = 0
        while isinstance(schema, dict) and "$ref" in schema and seen < MOST_OPTIONS:
            if set(schema) - ANNOTATIONS - {"$ref", "$defs", "definitions"}:
                raise _refused("has keywords beside $ref")
            schema, seen = resolve(self.root, schema["$ref"], ""), seen + 1
        if schema is True:
            return {}
        if not isinstance(schema, dict) or "$ref" in schema:
            raise _refused("holds a schema that nothing meets")
        return schema

    def _ways(self, value: Any, depth: int) -> list[str]:
        """How a value may be written, the end of its parameter included."""
        schema = self._resolved(value)
        asked = {key for key in schema if key not in ANNOTATIONS}
        if len(asked) == 1 and asked <= _OPTIONS and depth < 4:
            (key,) = asked
            ways = [way for option in schema[key] for way in self._ways(option, depth + 1)]
            if len(ways) > MOST_OPTIONS or (key == "oneOf" and len(schema[key]) > 1):
                raise _refused(f"has {key}; anyOf of at most {MOST_OPTIONS} values is served")
            return list(dict.fromkeys(ways))
        if isinstance(schema.get("type"), list) and asked == {"type"}:
            return [way for one in schema["type"] for way in self._ways({"type": one}, depth + 1)]
        if asked <= {"enum", "const", "type"} and asked & {"enum", "const"}:
            return self._values(schema)
        if not asked or (schema.get("type") == "string" and asked <= _FREE):
            return [self.until([END], [])]
        if schema.get("type") == "string":
            raise _refused(
                f"asks {quoted(min(asked - _FREE))} of a text; enum and const are served"
            )
        if "type" not in schema or "string" in schema["type"]:
            raise _refused("has a value of several types; say its type, or anyOf")
        defs = {
            key: {name: _without_ends(one) for name, one in self.root[key].items()}
            for key in ("$defs", "definitions")
            if isinstance(self.root, dict) and key in self.root
        }
        inner = self.rule(f"%json {self.of_schema({**defs, **_without_ends(schema)})}")
        return [f'"\\n"? {inner} "\\n"? {json.dumps(END)}']

    def _values(self, schema: Schema) -> list[str]:
        from jsonschema import Draft202012Validator

        values = schema["enum"] if "enum" in schema else [schema["const"]]
        is_met = Draft202012Validator(schema).is_valid
        texts = [one if isinstance(one, str) else json.dumps(one) for one in values if is_met(one)]
        fitting = [
            text for text in dict.fromkeys(texts) if END not in text and text == text.strip()
        ]
        if not fitting:
            raise _refused("has an enum none of whose values can be written")
        return [f'"\\n"? ({" | ".join(map(json.dumps, fitting))}) "\\n"? {json.dumps(END)}']


def _refused(what: str) -> RefusedError:
    return RefusedError(
        f"style='qwen_xml' of a structural tag is served for plain objects, and this schema {what}"
    )


def _is_open(node: Schema) -> bool:
    """May there be texts that no keyword of the schema describes?"""
    if {"enum", "const", "$ref", "anyOf", "oneOf", "allOf"} & set(node):
        return False
    kind = node.get("type")
    if kind == "array":
        return not isinstance(node.get("items"), dict) and "prefixItems" not in node
    if kind == "object":
        return not node.get("properties") or bool(
            node.get("additionalProperties") or node.get("patternProperties")
        )
    return kind is None


def _without_ends(node: Any) -> Any:
    """The same schema, whose free strings have no ``<``."""
    if isinstance(node, list):
        return [_without_ends(one) for one in node]
    if not isinstance(node, dict):
        return node
    if _is_open(node):
        raise _refused("leaves values or names open within a value that is no text")
    out = dict(node)
    for key in IN_MAPS:
        if isinstance(node.get(key), dict):
            out[key] = {name: _without_ends(value) for name, value in node[key].items()}
    for key in (*IN_LISTS, *IN_ONE):
        if isinstance(node.get(key), (dict, list)):
            out[key] = _without_ends(node[key])
    kind = node.get("type")
    if kind == "string" and not {"enum", "const", "pattern", "format"} & set(node):
        out["pattern"] = PLAIN
    if kind == "string" and "pattern" in node:
        raise _refused("has a pattern within a value that is no text")
    if isinstance(kind, list) and "string" in kind:
        raise _refused("has several types within a value that is no text; say anyOf")
    return out
