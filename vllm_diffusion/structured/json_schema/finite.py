"""Whether a schema has a text of finite length: what every text of it must hold, added up."""

from __future__ import annotations

from typing import Any

from vllm_diffusion.structured.json_schema.read import resolve

NEVER = float("inf")


class _Sizes:
    def __init__(self, root: Any) -> None:
        self.root = root
        self.of_reference: dict[str, float] = {}

    def size(self, node: Any) -> float:
        """Fewest characters, roughly and never too many; infinite where no text is finite."""
        if node is False:
            return NEVER
        if not isinstance(node, dict):
            return 1
        least = 1.0
        if "$ref" in node:
            least = max(least, self.of_reference.setdefault(node["$ref"], NEVER))
        for part in node.get("allOf", ()):
            least = max(least, self.size(part))
        for key in ("anyOf", "oneOf"):
            if key in node:
                least = max(least, min(map(self.size, node[key]), default=NEVER))
        if "enum" in node:
            return least if node["enum"] else NEVER
        if "const" in node:
            return least
        kinds = node.get("type")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if kinds is None:
            return least  # a number may always come, whatever else is asked of other types
        return max(least, min((self._of_kind(node, kind) for kind in kinds), default=NEVER))

    def _of_kind(self, node: dict[str, Any], kind: str) -> float:
        if kind == "object":
            properties = node.get("properties", {})
            others = node.get("additionalProperties", True)
            if node.get("patternProperties"):
                others = True
            return 2 + sum(
                len(name) + self.size(properties.get(name, others))
                for name in node.get("required", ())
            )
        if kind == "array":
            first = node.get("prefixItems", [])
            num = int(node.get("minItems", 0))
            rest = max(num - len(first), 0)
            total = 2.0 + sum(self.size(item) for item in first[:num])
            return total + (rest * self.size(node.get("items", True)) if rest else 0)
        return float(node.get("minLength", 0)) + 1 if kind == "string" else 1


def is_finite(root: Any) -> bool:
    """Whether some text of the schema is finite; references must be sound."""
    sizes = _Sizes(root)
    sizes.size(root)
    while True:
        before = dict(sizes.of_reference)
        for reference in before:
            # From below each round settles one more: the fewest characters only fall.
            sizes.of_reference[reference] = sizes.size(resolve(root, reference, ""))
        if sizes.of_reference == before:
            return sizes.size(root) < NEVER
