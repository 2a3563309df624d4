"""Which schemas are regular languages, as expressions over the JSON that they allow.

For these a block's exact distribution is known (``posterior``), and the way to a text's end.
Whatever is not told here for certain is left to the grammar's matcher alone.
"""

from __future__ import annotations

import json
from typing import Any

from vllm_diffusion.structured.constraint import RefusedError, TooLargeError
from vllm_diffusion.structured.json_schema.read import ANNOTATIONS, Schema, resolve
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.regex_ast import (
    EMPTY,
    Alt,
    Chars,
    Node,
    Repeat,
    Seq,
    anchored,
    literal,
    parse,
)
from vllm_diffusion.structured.regex_json import FREE, escaped

MAX_COUNT = 512
"""Longest string, and most items, that are counted out: each is states of its own."""
MAX_OPTIONAL = 24
"""Members that may be left out where none must come: a way through for each first one."""
DIGIT = Chars(((0x30, 0x39),))
NONZERO = Chars(((0x31, 0x39),))
MINUS = Repeat(literal("-"), 0, 1)
WHOLE = Alt((literal("0"), Seq((NONZERO, Repeat(DIGIT, 0, None)))))
INTEGER = Alt((WHOLE, Seq((literal("-"), NONZERO, Repeat(DIGIT, 0, None)))))
FRACTION = Repeat(Seq((literal("."), Repeat(DIGIT, 1, None))), 0, 1)
EXPONENT = Repeat(
    Seq((Chars(((0x45, 0x45), (0x65, 0x65))), Repeat(Chars(((0x2B, 0x2B), (0x2D, 0x2D))), 0, 1),
         Repeat(DIGIT, 1, 2))), 0, 1,
)  # fmt: skip
SCALARS: dict[str, Node] = {
    "integer": INTEGER,
    "number": Seq((MINUS, WHOLE, FRACTION, EXPONENT)),
    "boolean": Alt((literal("true"), literal("false"))),
    "null": literal("null"),
}


class NotRegularError(Exception):
    """It is not told to be regular."""


class ToRegex:
    """Makes the expression of one schema.

    Args:
        root: as ``rewrite`` leaves it, or as the client sent it: where both have an expression it
            is the same, and what the one refuses the other may still say.
        separators: behind items and keys.
        limits: of one constraint.
        is_closed: whether objects that do not say have no properties but theirs.
    """

    def __init__(
        self, root: Any, separators: tuple[str, str], limits: Limits, *, is_closed: bool
    ) -> None:
        self.root, self.separators, self.limits = root, separators, limits
        self.is_closed = is_closed
        self.under_way: list[str] = []
        self.nodes = 0

    def of(self, schema: Any) -> Node:
        """The expression of a schema within the root.

        Raises:
            NotRegularError: it is not told to be regular.
        """
        self.nodes += 1
        if self.nodes > self.limits.schema_nodes:
            raise NotRegularError
        if not isinstance(schema, dict):
            raise NotRegularError
        asked = {
            key: value
            for key, value in schema.items()
            if key not in ANNOTATIONS and key not in ("$defs", "definitions")
        }
        if set(asked) == {"$ref"}:
            return self._reference(asked["$ref"])
        if "const" in asked or "enum" in asked:
            return self._values(asked)
        if set(asked) == {"anyOf"}:
            return Alt(tuple(self.of(option) for option in asked["anyOf"]))
        if set(asked) == {"oneOf"}:
            return self._apart(asked["oneOf"])
        if set(asked) == {"allOf"} and len(asked["allOf"]) == 1:
            return self.of(asked["allOf"][0])
        kind = asked.pop("type", None)
        if isinstance(kind, list):
            if asked:
                raise NotRegularError
            return Alt(tuple(self.of({"type": one}) for one in kind))
        if kind == "integer":
            return self._integer(asked)
        if kind in SCALARS and not asked:
            return SCALARS[kind]
        if kind == "string":
            return self._string(asked)
        if kind == "array":
            return self._array(asked)
        if kind == "object":
            return self._object(asked)
        raise NotRegularError

    def _reference(self, reference: str) -> Node:
        if reference in self.under_way:
            raise NotRegularError  # it holds itself
        self.under_way.append(reference)
        node = self.of(resolve(self.root, reference, ""))
        self.under_way.pop()
        return node

    def _values(self, asked: Schema) -> Node:
        if set(asked) - {"const", "enum", "type"} or {"const", "enum"} <= set(asked):
            raise NotRegularError
        values = asked.get("enum", [asked.get("const")])
        kind = asked.get("type")
        if kind is not None and kind != "string":
            raise NotRegularError
        if kind == "string" and not all(isinstance(value, str) for value in values):
            raise NotRegularError
        return Alt(tuple(literal(self._dumps(value)) for value in values))

    def _apart(self, options: list[Any]) -> Node:
        """Alternatives of which no two can hold at once, by their types."""
        kinds = [option.get("type") if isinstance(option, dict) else None for option in options]
        is_apart = len(set(map(str, kinds))) == len(kinds) and all(
            isinstance(kind, str) for kind in kinds
        )
        if not is_apart or {"integer", "number"} <= set(kinds):
            raise NotRegularError
        return Alt(tuple(self.of(option) for option in options))

    def _dumps(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=self.separators)

    def _count(self, asked: Schema, least: str, most: str) -> tuple[int, int | None]:
        low, high = asked.pop(least, 0), asked.pop(most, None)
        for bound in (low, high):
            if bound is not None and (bound != int(bound) or not 0 <= bound <= MAX_COUNT):
                raise NotRegularError
        if high is not None and high < low:
            raise NotRegularError
        return int(low), None if high is None else int(high)

    def _string(self, asked: Schema) -> Node:
        quote = literal('"')
        if set(asked) == {"pattern"}:
            try:
                expression = parse(asked["pattern"], self.limits.nesting)
                text = escaped(anchored(expression, is_search=True))
            except RefusedError as error:
                raise NotRegularError from error
            return Seq((quote, text, quote))
        low, high = self._count(asked, "minLength", "maxLength")
        if asked:
            raise NotRegularError
        return Seq((quote, Repeat(FREE, low, high), quote))

    def _integer(self, asked: Schema) -> Node:
        if not asked:
            return INTEGER
        if set(asked) - {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}:
            raise NotRegularError
        if any(isinstance(value, bool) or value != int(value) for value in asked.values()):
            raise NotRegularError
        lows = [int(asked["minimum"])] if "minimum" in asked else []
        lows += [int(asked["exclusiveMinimum"]) + 1] if "exclusiveMinimum" in asked else []
        highs = [int(asked["maximum"])] if "maximum" in asked else []
        highs += [int(asked["exclusiveMaximum"]) - 1] if "exclusiveMaximum" in asked else []
        return integers(max(lows, default=None), min(highs, default=None))

    def _array(self, asked: Schema) -> Node:
        comma = literal(self.separators[0])
        first = asked.pop("prefixItems", None)
        if first is not None:
            is_whole = asked.pop("items", True) is False and asked.pop("minItems", 0) == len(first)
            if not is_whole or asked or not first:
                raise NotRegularError
            parts = [part for item in first for part in (comma, self.of(item))][1:]
            return Seq((literal("["), *parts, literal("]")))
        item = self.of(asked.pop("items", None))
        low, high = self._count(asked, "minItems", "maxItems")
        if asked:
            raise NotRegularError
        if high == 0:
            return literal("[]")
        more = Repeat(Seq((comma, item)), max(low - 1, 0), None if high is None else high - 1)
        items: Node = Seq((item, more))
        return Seq((literal("["), items if low else Repeat(items, 0, 1), literal("]")))

    def _object(self, asked: Schema) -> Node:
        properties = asked.pop("properties", None)
        is_closed = self.is_closed or asked.get("additionalProperties") is False
        additional = asked.pop("additionalProperties", False)
        required = set(asked.pop("required", []))
        if asked or additional is not False or not is_closed or not properties:
            raise NotRegularError
        if not required <= set(properties):
            raise NotRegularError
        members: list[tuple[Node, bool]] = []
        for name, schema in properties.items():
            if schema is False:
                if name in required:
                    raise NotRegularError
                continue
            key = literal(self._dumps(name) + self.separators[1])
            members.append((Seq((key, self.of(schema))), name in required))
        return Seq((literal("{"), self._members(members), literal("}")))

    def _members(self, members: list[tuple[Node, bool]]) -> Node:
        """Members in their order, some of which may be left out."""
        comma = literal(self.separators[0])

        def behind(rest: list[tuple[Node, bool]]) -> list[Node]:
            out: list[Node] = []
            for member, is_needed in rest:
                part = Seq((comma, member))
                out.append(part if is_needed else Repeat(part, 0, 1))
            return out

        needed = [at for at, (_, is_needed) in enumerate(members) if is_needed]
        if needed:
            at = needed[0]
            before = [Repeat(Seq((member, comma)), 0, 1) for member, _ in members[:at]]
            return Seq((*before, members[at][0], *behind(members[at + 1 :])))
        if len(members) > MAX_OPTIONAL:
            raise NotRegularError
        ways = [Seq((member, *behind(members[at + 1 :]))) for at, (member, _) in enumerate(members)]
        return Alt((EMPTY, *ways))


def integers(low: int | None, high: int | None) -> Node:
    """The whole numbers between two bounds, without leading zeros."""
    if low is not None and high is not None and low > high:
        raise NotRegularError
    options: list[Node] = []
    if high is None or high >= 0:
        options.append(_magnitudes(max(low or 0, 0), high))
    if low is None or low < 0:
        least = 1 if high is None or high >= 0 else -high
        options.append(Seq((literal("-"), _magnitudes(least, None if low is None else -low))))
    return Alt(tuple(options))


def _magnitudes(low: int, high: int | None) -> Node:
    """Numbers that are not negative, by their digits."""
    options: list[Node] = []
    size = len(str(low))
    top = size if high is None else len(str(high))
    if top > 400:
        raise TooLargeError("a bound of more than 400 digits")
    for digits in range(size, top + 1):
        first = max(low, 0 if digits == 1 else 10 ** (digits - 1))
        last = 10**digits - 1
        if high is not None:
            last = min(last, high)
        options += _of_one_length(str(first), str(last))
    if high is None:
        options.append(Seq((NONZERO, Repeat(DIGIT, size, None))))
    return Alt(tuple(options))


def _of_one_length(first: str, last: str) -> list[Node]:
    """Numbers from ``first`` to ``last``, which have as many digits."""
    shared = 0
    while shared < len(first) and first[shared] == last[shared]:
        shared += 1
    head = literal(first[:shared])
    if shared == len(first):
        return [head]
    low, high = int(first[shared]), int(last[shared])
    rest = len(first) - shared - 1
    options: list[Node] = []
    if first[shared + 1 :].strip("0"):
        zeros = "9" * rest
        options += [
            Seq((head, literal(first[shared]), part))
            for part in _of_one_length(first[shared + 1 :], zeros)
        ]
        low += 1
    ends = []
    if last[shared + 1 :].strip("9"):
        ends = [
            Seq((head, literal(last[shared]), part))
            for part in _of_one_length("0" * rest, last[shared + 1 :])
        ]
        high -= 1
    if low <= high:
        middle = Chars(((0x30 + low, 0x30 + high),))
        options.append(Seq((head, middle, Repeat(DIGIT, rest, rest))))
    return [*options, *ends]
