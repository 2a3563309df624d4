"""A regular expression as a deterministic automaton over UTF-8 bytes, of bounded size.

Python's own parser reads the expression. outlines-core would make the automaton, but it makes one
that may start anywhere in a text along with it, whose size is exponential for a bounded repetition
of alternatives, such as a JSON string of at most 20 characters; a server must not wait for that.

Shape suffixes: Q states.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_NODES = 1 << 15
"""Most states of the automaton before it is made deterministic."""
MAX_STATES = 1 << 12

Span = tuple[int, int]
"""First and last of a range of characters or bytes."""
Ints = NDArray[np.int64]

_LAST = 0x10FFFF
_LENGTHS: tuple[Span, ...] = ((0, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0x10000, _LAST))
_NO_SURROGATES: tuple[Span, ...] = ((0, 0xD7FF), (0xE000, _LAST))
_CATEGORIES: dict[Any, list[Span]] = {
    sre.CATEGORY_DIGIT: [(0x30, 0x39)],
    sre.CATEGORY_WORD: [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
    sre.CATEGORY_SPACE: [(0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0)],
}
_NEGATED = {
    sre.CATEGORY_NOT_DIGIT: sre.CATEGORY_DIGIT,
    sre.CATEGORY_NOT_WORD: sre.CATEGORY_WORD,
    sre.CATEGORY_NOT_SPACE: sre.CATEGORY_SPACE,
}


class TooLargeError(ValueError):
    """The automaton would be larger than the bounds of its module."""


def complement(spans: Iterable[Span]) -> list[Span]:
    """The characters that are in none of the spans."""
    out, low = [], 0
    for first, last in sorted(spans):
        if first > low:
            out.append((low, first - 1))
        low = max(low, last + 1)
    return [*out, (low, _LAST)] if low <= _LAST else out


def encoded(first: int, last: int) -> Iterator[list[Span]]:
    """The characters from ``first`` to ``last`` as sequences of ranges of UTF-8 bytes."""
    for low, high in (*_LENGTHS[:2], (0x800, 0xD7FF), (0xE000, 0xFFFF), _LENGTHS[3]):
        if first <= high and last >= low:
            yield from _aligned(max(first, low), min(last, high))


def _aligned(first: int, last: int) -> Iterator[list[Span]]:
    """Split where only the last bytes may be anything; both ends have encodings of one length."""
    width = len(chr(first).encode())
    for trailing in range(1, width):
        block = (1 << 6 * trailing) - 1
        if first & ~block != last & ~block:
            if first & block:
                yield from _aligned(first, first | block)
                yield from _aligned((first | block) + 1, last)
                return
            if last & block != block:
                yield from _aligned(first, (last & ~block) - 1)
                yield from _aligned(last & ~block, last)
                return
    yield list(zip(chr(first).encode(), chr(last).encode(), strict=True))


class _Nodes:
    """The automaton before it is made deterministic; each part gets a start and leaves an end."""

    def __init__(self, *, dot_all: bool, has_ascii_classes: bool) -> None:
        self.dot_all, self.has_ascii_classes = dot_all, has_ascii_classes
        self.empty: list[list[int]] = []
        self.edges: list[list[tuple[int, int, int]]] = []

    def node(self) -> int:
        if len(self.empty) >= MAX_NODES:
            raise TooLargeError(f"the expression has more than {MAX_NODES} parts")
        self.empty.append([])
        self.edges.append([])
        return len(self.empty) - 1

    def spans(self, start: int, spans: Iterable[Span]) -> int:
        end = self.node()
        for first, last in spans:
            for sequence in encoded(first, last):
                at = start
                for low, high in sequence[:-1]:
                    following = self.node()
                    self.edges[at].append((low, high, following))
                    at = following
                self.edges[at].append((*sequence[-1], end))
        return end

    def sequence(self, start: int, parts: Iterable[tuple[Any, Any]]) -> int:
        for operation, argument in parts:
            start = self.part(start, operation, argument)
        return start

    def part(self, start: int, operation: Any, argument: Any) -> int:
        if operation is sre.LITERAL:
            return self.spans(start, [(argument, argument)])
        if operation is sre.NOT_LITERAL:
            return self.spans(start, complement([(argument, argument)]))
        if operation is sre.ANY:
            return self.spans(start, complement([] if self.dot_all else [(0x0A, 0x0A)]))
        if operation is sre.IN:
            return self.spans(start, self.members(argument))
        if operation is sre.BRANCH:
            end = self.node()
            for option in argument[1]:
                self.empty[self.sequence(self.linked(start), option)].append(end)
            return end
        if operation is sre.SUBPATTERN and not argument[1] and not argument[2]:
            return self.sequence(start, argument[3])
        if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            return self.repeat(start, *argument)
        raise ValueError(f"{str(operation).lower()} is not regular, or depends on what is around")

    def linked(self, start: int) -> int:
        node = self.node()
        self.empty[start].append(node)
        return node

    def repeat(self, start: int, low: int, high: int, body: Sequence[tuple[Any, Any]]) -> int:
        for _ in range(low):
            start = self.sequence(start, body)
        if high is sre.MAXREPEAT:
            start = self.linked(start)
            self.empty[self.sequence(start, body)].append(start)
            return self.linked(start)
        end = self.node()
        for _ in range(high - low):
            self.empty[start].append(end)
            start = self.sequence(start, body)
        self.empty[start].append(end)
        return end

    def members(self, items: Iterable[tuple[Any, Any]]) -> list[Span]:
        spans: list[Span] = []
        is_negated = False
        for operation, argument in items:
            if operation is sre.NEGATE:
                is_negated = True
            elif operation is sre.LITERAL:
                spans.append((argument, argument))
            elif operation is sre.RANGE:
                spans.append(argument)
            elif not self.has_ascii_classes:
                raise ValueError("its classes hold more than ASCII")
            elif argument in _NEGATED:
                spans.extend(complement(_CATEGORIES[_NEGATED[argument]]))
            else:
                spans.extend(_CATEGORIES[argument])
        return complement(spans) if is_negated else spans

    def closure(self, nodes: Iterable[int]) -> frozenset[int]:
        found, left = set(nodes), list(nodes)
        while left:
            new = [node for node in self.empty[left.pop()] if node not in found]
            found.update(new)
            left.extend(new)
        return frozenset(found)


def byte_table(
    regex: str, *, dot_all: bool = False, has_ascii_classes: bool = True
) -> tuple[Ints, NDArray[np.bool_]]:
    """Next states (Q + 1, 256), 0 the start and Q dead, and which of them are final (Q + 1,).

    Args:
        regex: in Python's syntax; the whole text must match. Anchors at its ends say nothing.
        dot_all: whether a dot stands for a line break too.
        has_ascii_classes: whether the classes for digits, words and space are those of ASCII;
            otherwise an expression with one is refused.

    Raises:
        TooLargeError: it would be beyond the bounds of this module.
        ValueError: it cannot be read, or is not regular.
    """
    try:
        with warnings.catch_warnings():
            # About what another version of Python might read otherwise; for users it is noise.
            warnings.simplefilter("ignore", FutureWarning)
            parts = list(parser.parse(regex))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if parts and parts[0][0] is sre.AT and parts[0][1] is sre.AT_BEGINNING:
        parts = parts[1:]
    if parts and parts[-1][0] is sre.AT and parts[-1][1] is sre.AT_END:
        parts = parts[:-1]
    nodes = _Nodes(dot_all=dot_all, has_ascii_classes=has_ascii_classes)
    end = nodes.sequence(nodes.node(), parts)
    first = nodes.closure([0])
    number, order = {first: 0}, [first]
    rows: list[Ints] = []
    for state in order:  # grows while it is read
        row = np.full(256, -1, dtype=np.int64)
        edges = [edge for node in state for edge in nodes.edges[node]]
        borders = sorted({low for low, _, _ in edges} | {high + 1 for _, high, _ in edges})
        for low, high in pairwise(borders):
            targets = {target for a, b, target in edges if a <= low <= b}
            if not targets:
                continue
            following = nodes.closure(targets)
            if following not in number:
                if len(order) >= MAX_STATES:
                    raise TooLargeError(f"more than {MAX_STATES} states")
                number[following] = len(order)
                order.append(following)
            row[low:high] = number[following]
        rows.append(row)
    table = np.stack([*rows, np.full(256, -1)])
    table[table < 0] = len(order)
    return table, np.array([*(end in state for state in order), False])
