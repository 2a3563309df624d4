"""Regular expressions as trees of character sets: read, escaped for JSON, written for llguidance.

Python's own parser reads them. What is said differently by Python and by ECMA-262, the dialect of
JSON Schema, gets what both allow: classes of digits and words are those of ASCII, their negations
leave out every Unicode member, and a dot is no line break of either.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from vllm_diffusion.request.quote import quoted
from vllm_diffusion.structured.constraint import RefusedError, TooLargeError

Span = tuple[int, int]
"""First and last of a range of characters."""
LAST = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Seq:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alt:
    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    body: Node
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Border:
    """``^`` or ``$``; gone once an expression is anchored."""

    is_end: bool


Node = Chars | Seq | Alt | Repeat | Border
EMPTY = Seq(())
MAX_SHORTEST = 1 << 14


def complement(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The characters that are in none of the spans, surrogates left out."""
    out, low = [], 0
    for first, last in sorted([*spans, SURROGATES]):
        if first > low:
            out.append((low, first - 1))
        low = max(low, last + 1)
    return (*out, (low, LAST)) if low <= LAST else tuple(out)


ANY = Chars(complement([]))
_DIGITS: tuple[Span, ...] = ((0x30, 0x39),)
_WORDS: tuple[Span, ...] = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACES: tuple[Span, ...] = ((0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0))
_ALL_SPACES = (
    (0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x180E, 0x180E),
    (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
    (0xFEFF, 0xFEFF),
)  # fmt: skip
# Punctuation and symbols beyond ASCII: none is a letter, a digit or a mark anywhere.
_NO_WORDS = (
    (0x00, 0x2F), (0x3A, 0x40), (0x5B, 0x5E), (0x60, 0x60), (0x7B, 0x7F), (0xA1, 0xA9),
    (0xAB, 0xAC), (0xAE, 0xB1), (0xB4, 0xB4), (0xB6, 0xB8), (0xBB, 0xBB), (0xBF, 0xBF),
    (0xD7, 0xD7), (0xF7, 0xF7), (0x2010, 0x2027), (0x2030, 0x203E), (0x20A0, 0x20C0),
    (0x2190, 0x2426), (0x2500, 0x2775), (0x3001, 0x3003), (0x1F300, 0x1F64F),
)  # fmt: skip
_CATEGORIES: dict[Any, tuple[Span, ...]] = {
    sre.CATEGORY_DIGIT: _DIGITS,
    sre.CATEGORY_WORD: _WORDS,
    sre.CATEGORY_SPACE: _SPACES,
    # Above ASCII a digit has a value in some script: left out as far as the first of them.
    sre.CATEGORY_NOT_DIGIT: ((0x00, 0x2F), (0x3A, 0x65F), (0x2000, 0x9FFF), (0x1F300, 0x1F64F)),
    sre.CATEGORY_NOT_WORD: _NO_WORDS,
    sre.CATEGORY_NOT_SPACE: complement(_ALL_SPACES),
}
_LINE_BREAKS: tuple[Span, ...] = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))


def literal(text: str) -> Node:
    """Exactly this text."""
    return Seq(tuple(Chars(((ord(char), ord(char)),)) for char in text))


def nesting(regex: str) -> int:
    """Levels of groups, as far as a look at brackets tells; never too few."""
    depth = most = at = 0
    while at < len(regex):
        char = regex[at]
        if char == "\\":
            at += 1
        elif char == "(":
            depth += 1
            most = max(most, depth)
        elif char == ")":
            depth = max(depth - 1, 0)
        at += 1
    return most


def parse(regex: str, max_nesting: int) -> Node:
    """Read an expression in Python's syntax.

    Raises:
        RefusedError: it cannot be read, or it is not regular.
    """
    if (levels := nesting(regex)) > max_nesting:
        raise RefusedError(f"the expression nests {levels} groups, at most {max_nesting} are read")
    try:
        with warnings.catch_warnings():
            # About what another version of Python might read otherwise; for users it is noise.
            warnings.simplefilter("ignore")
            tree = parser.parse(regex)
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        raise RefusedError(f"the expression {quoted(regex)} cannot be read: {error}") from error
    if tree.state.flags & (re.IGNORECASE | re.MULTILINE | re.ASCII | re.LOCALE):
        raise RefusedError(f"the expression {quoted(regex)} has flags; write the sets out")
    return _sequence(tree, bool(tree.state.flags & re.DOTALL))


def _sequence(parts: Iterable[tuple[Any, Any]], dot_all: bool) -> Node:
    return Seq(tuple(_part(operation, argument, dot_all) for operation, argument in parts))


def _part(operation: Any, argument: Any, dot_all: bool) -> Node:
    if operation is sre.LITERAL:
        if SURROGATES[0] <= argument <= SURROGATES[1]:
            raise RefusedError("half of a surrogate pair is no character")
        return Chars(((argument, argument),))
    if operation is sre.NOT_LITERAL:
        return Chars(complement([(argument, argument)]))
    if operation is sre.ANY:
        return ANY if dot_all else Chars(complement(_LINE_BREAKS))
    if operation is sre.IN:
        return Chars(_members(argument))
    if operation is sre.BRANCH:
        return Alt(tuple(_sequence(option, dot_all) for option in argument[1]))
    if operation is sre.SUBPATTERN and not argument[1] & ~re.DOTALL and not argument[2]:
        return _sequence(argument[3], dot_all or bool(argument[1] & re.DOTALL))
    if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        low, high, body = argument
        limit = None if high is sre.MAXREPEAT else int(high)
        return Repeat(_sequence(body, dot_all), int(low), limit)
    if operation is sre.AT and argument in (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING):
        return Border(is_end=False)
    if operation is sre.AT and argument in (sre.AT_END, sre.AT_END_STRING):
        return Border(is_end=True)
    name = str(argument if operation is sre.AT else operation).lower()
    raise RefusedError(f"{name} in an expression is not regular, or depends on what is around it")


def _members(items: Sequence[tuple[Any, Any]]) -> tuple[Span, ...]:
    spans: list[Span] = []
    is_negated = any(operation is sre.NEGATE for operation, _ in items)
    for operation, argument in items:
        if operation is sre.LITERAL:
            spans.append((argument, argument))
        elif operation is sre.RANGE:
            spans.append(argument)
        elif operation is sre.CATEGORY:
            # Within a negated set the larger class is taken out, so that less may come.
            spans.extend(_widest(argument) if is_negated else _CATEGORIES[argument])
    return complement(spans) if is_negated else complement(complement(spans))


def _widest(category: Any) -> tuple[Span, ...]:
    opposite = {
        sre.CATEGORY_DIGIT: sre.CATEGORY_NOT_DIGIT,
        sre.CATEGORY_WORD: sre.CATEGORY_NOT_WORD,
        sre.CATEGORY_SPACE: sre.CATEGORY_NOT_SPACE,
    }
    opposite |= {negated: plain for plain, negated in opposite.items()}
    return complement(_CATEGORIES[opposite[category]])


def anchored(node: Node, *, is_search: bool) -> Node:
    """The whole text that an expression stands for, without its borders.

    Args:
        node: as it was read.
        is_search: whether it may stand anywhere in the text where it names no border.

    Raises:
        RefusedError: a border within the expression, which no text or any text may pass.
    """
    if isinstance(node, Alt):
        return Alt(tuple(anchored(option, is_search=is_search) for option in node.options))
    parts = list(node.parts) if isinstance(node, Seq) else [node]
    while len(parts) == 1 and isinstance(parts[0], (Seq, Alt)):
        if isinstance(parts[0], Alt):
            return anchored(parts[0], is_search=is_search)
        parts = list(parts[0].parts)
    has_start = bool(parts) and parts[0] == Border(is_end=False)
    while parts and parts[0] == Border(is_end=False):
        parts = parts[1:]
    has_end = bool(parts) and parts[-1] == Border(is_end=True)
    while parts and parts[-1] == Border(is_end=True):
        parts = parts[:-1]
    if any(_has_border(part) for part in parts):
        raise RefusedError("^ and $ are read at the ends of an expression or of its alternatives")
    if is_search and not has_start:
        parts = [Repeat(ANY, 0, None), *parts]
    if is_search and not has_end:
        parts = [*parts, Repeat(ANY, 0, None)]
    return Seq(tuple(parts))


def _has_border(node: Node) -> bool:
    if isinstance(node, Seq):
        return any(_has_border(part) for part in node.parts)
    if isinstance(node, Alt):
        return any(_has_border(option) for option in node.options)
    if isinstance(node, Repeat):
        return _has_border(node.body)
    return isinstance(node, Border)


def shortest(node: Node) -> str:
    """A text with the fewest characters; a set's first that is printable, if it has one."""
    if isinstance(node, Chars):
        codes = [max(first, 0x21) for first, last in node.spans if last >= 0x21]
        return chr(codes[0] if codes else node.spans[0][0]) if node.spans else ""
    if isinstance(node, Seq):
        return "".join(shortest(part) for part in node.parts)
    if isinstance(node, Alt):
        return min((shortest(option) for option in node.options), key=len)
    if isinstance(node, Repeat):
        text = shortest(node.body) if node.low else ""
        if len(text) * node.low > MAX_SHORTEST:
            raise TooLargeError("its shortest text is too long")
        return text * node.low
    return ""
