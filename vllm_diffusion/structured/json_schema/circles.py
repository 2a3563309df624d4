"""References that come back to where they were without having gone into a value.

Nothing says what such a schema allows: a validator that follows it does not come to an end. This
holds where the outcome would not matter, too, as in an ``if`` without ``then`` and ``else``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.json_schema.read import Schema, resolve, subschemas

IN_PLACE = frozenset("allOf anyOf oneOf not if then else dependentSchemas".split())
"""Keywords whose schemas are asked about the same value."""
NAMED = frozenset(("$defs", "definitions"))
"""Keywords whose schemas are asked about nothing, until something refers to them."""
DYNAMIC = ("$dynamicRef", "$recursiveRef")


def check_circles(root: Any) -> None:
    """Look at every schema that a value may be held to; references must have been checked.

    Raises:
        RefusedError: references go in circles, or are of a kind that cannot be followed here.
    """
    left: list[tuple[str, Any]] = [("", root)]
    seen: set[int] = set()
    is_clear: set[int] = set()
    while left:
        pointer, node = left.pop()
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        for key in DYNAMIC:
            if key in node:
                raise RefusedError(
                    f"the keyword {key} is not served for structured output", pointer
                )
        _check_from(root, pointer, node, is_clear)
        left += [
            (f"{pointer}/{at}", child)
            for at, child in subschemas(node)
            if at.split("/")[0] not in NAMED
        ]
        if "$ref" in node:
            left.append((node["$ref"][1:], resolve(root, node["$ref"], pointer)))


def _check_from(root: Any, pointer: str, node: Schema, is_clear: set[int]) -> None:
    """Depth first along what is asked about the same value; ``is_clear`` leads to no circle."""
    if id(node) in is_clear:
        return
    path = [(node, _in_place(root, pointer, node))]
    on_path = {id(node)}
    while path:
        here, children = path[-1]
        child = next(children, None)
        if child is None:
            path.pop()
            on_path.discard(id(here))
            is_clear.add(id(here))
        elif id(child) in on_path:
            raise RefusedError("its references go in circles", pointer)
        elif id(child) not in is_clear:
            path.append((child, _in_place(root, pointer, child)))
            on_path.add(id(child))


def _in_place(root: Any, pointer: str, node: Schema) -> Iterator[Schema]:
    children = [child for at, child in subschemas(node) if at.split("/")[0] in IN_PLACE]
    if "$ref" in node:
        children.append(resolve(root, node["$ref"], pointer))
    return (child for child in children if isinstance(child, dict))
