"""A schema in the keywords that are compiled exactly; what cannot be said in them is refused.

llguidance compiles the keywords of ``KEPT`` exactly and refuses the others. Some of those say what
these can say too: values of an ``enum`` are filtered by what stands beside it, conditions over
finite values become alternatives, and so on. Nothing is dropped but annotations.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from vllm_diffusion.request.quote import quoted
from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.json_schema.read import ANNOTATIONS, Schema, escape, subschemas
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.regex_ast import anchored, parse
from vllm_diffusion.structured.regex_json import to_rust

KEPT = frozenset(
    "type properties required additionalProperties patternProperties minProperties maxProperties "
    "items prefixItems minItems maxItems enum const anyOf oneOf allOf $ref $defs definitions "
    "minLength maxLength pattern format minimum maximum exclusiveMinimum exclusiveMaximum "
    "multipleOf".split()
)
REWRITTEN = frozenset(
    "if then else not dependentRequired dependentSchemas dependencies propertyNames uniqueItems "
    "unevaluatedProperties unevaluatedItems".split()
)
UNSERVED = frozenset(
    "contains minContains maxContains $dynamicRef $recursiveRef additionalItems extends "
    "disallow divisibleBy".split()
)
FORMATS = frozenset("date-time time date duration email hostname ipv4 ipv6 uuid uri".split())
"""Those that strings are held to; others are annotations, as the specification has it."""
TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
APPLICATORS = ("$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "not")
EXACT = 1 << 53
"""Numbers beyond it are not told apart by what compiles them."""
MAX_VALUES = 400
"""Of a finite set that is made of a schema."""


class Rewriter:
    """Rewrites one schema.

    Args:
        validator: of the whole schema, to filter values.
        limits: of one constraint.
        is_closed: whether an object that does not say has the properties of its schema alone.
    """

    def __init__(self, validator: Any, limits: Limits, *, is_closed: bool) -> None:
        self.validator, self.limits = validator, limits
        self.is_closed = is_closed and not _is_composed(validator.schema)

    def rewrite(self, node: Any, pointer: str = "") -> Any:
        """The same schema in other words.

        Raises:
            RefusedError: by keyword and JSON pointer.
        """
        if isinstance(node, bool):
            return node
        for key in node:
            if key in UNSERVED and key not in ("minContains", "maxContains"):
                raise RefusedError(
                    f"the keyword {key} is not served for structured output", pointer
                )
        if "enum" in node or "const" in node:
            return self._values(node, pointer)
        kept: Schema = {
            key: value for key, value in node.items() if key not in ANNOTATIONS and key in KEPT
        }
        more: list[Any] = []
        self._objects(node, kept, more, pointer)
        self._arrays(node, kept, pointer)
        self._negation(node, kept, more, pointer)
        self._condition(node, more, pointer)
        kept = self._within(kept, pointer)
        self._strings(kept, pointer)
        self._numbers(kept, pointer)
        self._least_properties(kept, pointer)
        if more:
            parts = [self.rewrite(part, pointer) for part in more]
            kept["allOf"] = [*kept.get("allOf", []), *parts]
        return kept

    def _values(self, node: Schema, pointer: str) -> Any:
        """An enumeration without the values that what stands beside it forbids."""
        values = [node["const"]] if "const" in node else node["enum"]
        here = self.validator.evolve(schema=node)
        try:
            allowed = [value for value in values if here.is_valid(value)]
        except RecursionError as error:
            raise RefusedError("its references go in circles", pointer) from error
        if not allowed:
            raise RefusedError("no value of enum or const meets what stands beside it", pointer)
        out = {"enum": list({json.dumps(v, sort_keys=True): v for v in allowed}.values())}
        for key in ("$defs", "definitions"):
            if key in node:
                out[key] = self._within({key: node[key]}, pointer)[key]
        return out

    def _within(self, kept: Schema, pointer: str) -> Schema:
        """With the schemas inside rewritten."""
        out = dict(kept)
        for key in ("properties", "patternProperties", "$defs", "definitions"):
            if key in kept:
                out[key] = {
                    name: self.rewrite(value, f"{pointer}/{key}/{escape(name)}")
                    for name, value in kept[key].items()
                }
        if "patternProperties" in out:
            out["patternProperties"] = {
                self._pattern(name, f"{pointer}/patternProperties"): value
                for name, value in out["patternProperties"].items()
            }
        for key in ("allOf", "anyOf", "oneOf", "prefixItems"):
            if key in kept:
                out[key] = [
                    self.rewrite(value, f"{pointer}/{key}/{index}")
                    for index, value in enumerate(kept[key])
                ]
        for key in ("items", "additionalProperties"):
            if isinstance(kept.get(key), dict):
                out[key] = self.rewrite(kept[key], f"{pointer}/{key}")
        if isinstance(kept.get("items"), list):
            raise RefusedError("a list of items is prefixItems since draft 2020-12", pointer)
        return out

    def _pattern(self, regex: str, pointer: str) -> str:
        try:
            node = anchored(parse(regex, self.limits.nesting), is_search=True)
        except RefusedError as error:
            raise RefusedError(f"pattern={quoted(regex)}: {error}", pointer) from error
        return f"^(?:{to_rust(node)})$"

    def _strings(self, kept: Schema, pointer: str) -> None:
        if "pattern" in kept:
            kept["pattern"] = self._pattern(kept["pattern"], pointer)
        if kept.get("format") is not None and kept["format"] not in FORMATS:
            del kept["format"]
        counts = (
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
        )
        for key in counts:
            if isinstance(kept.get(key), float):
                kept[key] = int(kept[key])

    def _numbers(self, kept: Schema, pointer: str) -> None:
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"):
            if key in kept and abs(kept[key]) > EXACT:
                raise RefusedError(
                    f"{key}={quoted(kept[key])} is not served beside other keywords: numbers "
                    "beyond 2^53 are not told apart",
                    pointer,
                )
        step = kept.get("multipleOf")
        if isinstance(step, float) and not step.is_integer():
            raise RefusedError(f"multipleOf={quoted(step)} is served for whole numbers", pointer)

    def _objects(self, node: Schema, kept: Schema, more: list[Any], pointer: str) -> None:
        needed = dict(node.get("dependentRequired", {}))
        schemas = dict(node.get("dependentSchemas", {}))
        for name, value in node.get("dependencies", {}).items():
            (needed if isinstance(value, list) else schemas)[name] = value
        if len(needed) + len(schemas) > 6:
            raise RefusedError("more than six dependent properties are not served", pointer)
        for name, others in needed.items():
            more.append(_unless(name, {"required": [name, *others]}))
        for name, schema in schemas.items():
            more.append(_unless(name, {"allOf": [{"required": [name]}, schema]}))
        if "propertyNames" in node:
            self._names(node, kept, pointer)
        if node.get("unevaluatedProperties", True) is not True:
            is_plain = not any(key in node for key in APPLICATORS)
            if not is_plain or node["unevaluatedProperties"] is not False:
                raise RefusedError(
                    "unevaluatedProperties is served as false beside no other schemas; say "
                    "additionalProperties",
                    pointer,
                )
            kept.setdefault("additionalProperties", False)
        says_others = {"additionalProperties", "patternProperties"} & set(kept)
        if self.is_closed and "properties" in kept and not says_others:
            known = kept["properties"]
            unnamed: Schema = {name: {} for name in kept.get("required", ()) if name not in known}
            kept["properties"] = {**known, **unnamed}
            kept["additionalProperties"] = False

    def _least_properties(self, kept: Schema, pointer: str) -> None:
        """Free names may come twice, and count once."""
        least = kept.get("minProperties", 0)
        if least <= max(len(set(kept.get("required", ()))), 0):
            kept.pop("minProperties", None)
        elif least > 1 and (
            kept.get("additionalProperties") is not False or "patternProperties" in kept
        ):
            raise RefusedError(
                f"minProperties={least} is served where all properties are named "
                "(additionalProperties: false)",
                pointer,
            )

    def _names(self, node: Schema, kept: Schema, pointer: str) -> None:
        rule = node["propertyNames"]
        if rule is True or rule == {}:
            return
        others = kept.get("additionalProperties", True)
        if (
            rule is not False
            and set(rule) - ANNOTATIONS == {"pattern"}
            and not ({"properties", "patternProperties", "required"} & set(kept))
        ):
            kept["patternProperties"] = {rule["pattern"]: others}
            kept["additionalProperties"] = False
            return
        if rule is not False and set(rule) - ANNOTATIONS == {"enum"}:
            known = kept.get("properties", {})
            if "patternProperties" not in kept and set(kept.get("required", ())) <= set(
                rule["enum"]
            ):
                names = [name for name in rule["enum"] if isinstance(name, str)]
                kept["properties"] = {name: known.get(name, others) for name in names}
                kept["additionalProperties"] = False
                return
        raise RefusedError(
            "propertyNames is served as an enum, or as a pattern beside no properties", pointer
        )

    def _arrays(self, node: Schema, kept: Schema, pointer: str) -> None:
        if node.get("unevaluatedItems", True) is not True:
            if node["unevaluatedItems"] is not False or any(key in node for key in APPLICATORS):
                raise RefusedError("unevaluatedItems is not served; say items", pointer)
            kept.setdefault("items", False)
        if not node.get("uniqueItems") or node.get("maxItems", 2) <= 1:
            return
        items = node.get("items")
        values = items.get("enum") if isinstance(items, dict) else None
        if values is None or "prefixItems" in node or node.get("type") != "array":
            raise RefusedError(
                "uniqueItems is served for arrays whose items are a short enum", pointer
            )
        most = min(len(values), int(node.get("maxItems", len(values))))
        lists = [
            list(chosen)
            for count in range(int(node.get("minItems", 0)), most + 1)
            for chosen in itertools.islice(itertools.permutations(values, count), MAX_VALUES + 1)
        ]
        if not 0 < len(lists) <= MAX_VALUES:
            raise RefusedError(
                f"uniqueItems of {len(values)} values has no list, or more than {MAX_VALUES}",
                pointer,
            )
        kept.clear()
        here = self.validator.evolve(schema=node)
        kept["enum"] = [chosen for chosen in lists if here.is_valid(chosen)]

    def _negation(self, node: Schema, kept: Schema, more: list[Any], pointer: str) -> None:
        if "not" not in node:
            return
        rule = node["not"]
        if rule is False:
            return
        said = {} if rule is True else {k: v for k, v in rule.items() if k not in ANNOTATIONS}
        if not said:
            raise RefusedError("not=true allows no value", pointer)
        if set(said) == {"required"} and len(said["required"]) == 1:
            more.append(_without(said["required"][0]))  # what is no object meets ``required``
            return
        if set(said) == {"type"}:
            kinds = [said["type"]] if isinstance(said["type"], str) else said["type"]
            if "integer" not in kinds or "number" in kinds:
                more.append({"type": _types_but(*kinds)})
                return
        raise RefusedError(
            "not is served with a type, one required name, or beside an enum", pointer
        )

    def _condition(self, node: Schema, more: list[Any], pointer: str) -> None:
        if "if" not in node or not ("then" in node or "else" in node):
            return
        condition = node["if"]
        then, other = node.get("then", True), node.get("else", True)
        if isinstance(condition, bool):
            more.append(then if condition else other)
            return
        said = {k: v for k, v in condition.items() if k not in ANNOTATIONS and k != "type"}
        if condition.get("type", "object") != "object" or node.get("type") != "object":
            raise RefusedError("if is served for objects; say type: object beside it", pointer)
        if set(said) == {"required"} and len(said["required"]) == 1:
            name = said["required"][0]
            more.append({"anyOf": [{"allOf": [{"required": [name]}, then]},
                                   {"allOf": [_without(name), other]}]})  # fmt: skip
            return
        properties = said.get("properties", {})
        if set(said) - {"properties", "required"} or len(properties) != 1:
            raise RefusedError("if is served with one property of finite values", pointer)
        ((name, rule),) = properties.items()
        domain = _finite(node.get("properties", {}).get(name))
        chosen = _finite(rule)
        is_needed = name in said.get("required", ())
        if domain is None or chosen is None or set(said.get("required", ())) - {name}:
            raise RefusedError(
                f"if is served where {quoted(name)} has an enum, a const or a boolean in both "
                "schemas",
                pointer,
            )
        inside = [value for value in domain if _is_in(value, chosen)]
        outside = [value for value in domain if not _is_in(value, chosen)]
        options: list[Any] = []
        if inside:
            options.append({"allOf": [_with(name, inside), then]})
        if outside:
            options.append({"allOf": [_with(name, outside), other]})
        options.append({"allOf": [_without(name), other if is_needed else then]})
        more.append({"anyOf": options})


def _types_but(*names: str) -> list[str]:
    out = [name for name in TYPES if name not in names]
    return [name for name in out if name != "integer" or "number" not in names]


def _with(name: str, values: list[Any]) -> Schema:
    return {"type": "object", "properties": {name: {"enum": values}}, "required": [name]}


def _without(name: str) -> Schema:
    return {"type": "object", "properties": {name: False}}


def _unless(name: str, schema: Schema) -> Schema:
    """No object, or one without the property, or one that meets the schema."""
    return {"anyOf": [_without(name), schema, {"type": _types_but("object")}]}


def _finite(schema: Any) -> list[Any] | None:
    if not isinstance(schema, dict):
        return None
    said = set(schema) - ANNOTATIONS - {"type"}
    if said == {"const"}:
        return [schema["const"]] if _is_valid(schema, schema["const"]) else []
    if said == {"enum"}:
        return [value for value in schema["enum"] if _is_valid(schema, value)]
    return [True, False] if schema.get("type") == "boolean" and not said else None


def _is_valid(schema: Any, value: Any) -> bool:
    import jsonschema

    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


def _is_in(value: Any, values: list[Any]) -> bool:
    return _is_valid({"enum": values}, value)


def _is_composed(root: Any) -> bool:
    """Whether schemas are laid over each other, so that one of them alone may not close objects."""
    left = [root]
    while left:
        node = left.pop()
        if not isinstance(node, dict):
            continue
        keys = set(node) - ANNOTATIONS - {"$defs", "definitions"}
        if keys & {"allOf", "if", "dependentRequired", "dependentSchemas", "dependencies", "not"}:
            return True
        for key in ("$ref", "anyOf", "oneOf"):
            if key in keys and len(keys) > 1:
                return True
        left += [child for _, child in subschemas(node)]
    return False
