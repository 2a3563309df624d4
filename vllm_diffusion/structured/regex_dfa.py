"""An expression as the least deterministic automaton over UTF-8 bytes, within bounds.

outlines-core would make one too, but together with one that may start anywhere in a text, whose
size is exponential for a bounded repetition of alternatives, such as a JSON string of at most 20
characters.

Shape suffixes: Q states.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vllm_diffusion.structured.constraint import TooLargeError
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.regex_ast import LAST, Alt, Chars, Node, Repeat, Seq, Span

Ints = NDArray[np.int64]

WORK = 1 << 22
"""Most steps along empty edges while the automaton is made deterministic: two seconds."""
MAX_ROUNDS = 400
"""Of merging equal states; a long chain of states keeps them all."""
_LENGTHS = ((0, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, LAST))


@dataclass(frozen=True, slots=True, eq=False)
class ByteDfa:
    """State 0 is the start and the last one dead; from every other one a text can be completed."""

    table: NDArray[np.int32]
    """(Q + 1, 256): the state behind each byte."""
    is_final: NDArray[np.bool_]
    """(Q + 1,)."""
    to_end: NDArray[np.int64] | None = None
    """(Q + 1,): fewest tokens to a final state, where tokens cannot do what bytes can."""

    @property
    def dead(self) -> int:
        return len(self.table) - 1

    def accepts(self, text: bytes) -> bool:
        state = 0
        for byte in text:
            state = int(self.table[state, byte])
        return bool(self.is_final[state])

    def distances(self) -> Ints:
        """Fewest bytes from each state to a final one."""
        far = 1 << 30
        distance_Q = np.where(self.is_final, 0, far)
        narrow = _narrow(self.table)
        while True:
            best_Q = np.minimum(distance_Q, distance_Q[narrow].min(axis=1) + 1)
            best_Q[self.dead] = far
            if (best_Q == distance_Q).all():
                return distance_Q
            distance_Q = best_Q

    def shortest(self, state: int, distance_Q: Ints) -> bytes:
        """The shortest text from a state to a final one, printable bytes before others."""
        text = bytearray()
        order = np.array([*range(0x20, 0x7F), *range(0x20), *range(0x7F, 256)])
        while distance_Q[state]:
            left_B = distance_Q[self.table[state]]
            byte = int(order[left_B[order].argmin()])
            text.append(byte)
            state = int(self.table[state, byte])
        return bytes(text)


@lru_cache(1 << 10)
def encoded(first: int, last: int) -> tuple[tuple[Span, ...], ...]:
    """The characters from ``first`` to ``last`` as sequences of ranges of UTF-8 bytes."""
    return tuple(
        tuple(sequence)
        for low, high in _LENGTHS
        if first <= high and last >= low
        for sequence in _aligned(max(first, low), min(last, high))
    )


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

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.empty: list[list[int]] = []
        self.edges: list[list[tuple[int, int, int]]] = []
        self.work = 0

    def node(self) -> int:
        if len(self.empty) >= self.limit:
            raise TooLargeError(f"the expression has more than {self.limit} parts")
        self.empty.append([])
        self.edges.append([])
        return len(self.empty) - 1

    def linked(self, start: int) -> int:
        node = self.node()
        self.empty[start].append(node)
        return node

    def add(self, start: int, part: Node) -> int:
        if isinstance(part, Chars):
            return self._spans(start, part.spans)
        if isinstance(part, Seq):
            for one in part.parts:
                start = self.add(start, one)
            return start
        if isinstance(part, Alt):
            end = self.node()
            for option in part.options:
                self.empty[self.add(self.linked(start), option)].append(end)
            return end
        assert isinstance(part, Repeat)
        return self._repeat(start, part)

    def _spans(self, start: int, spans: Iterable[Span]) -> int:
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

    def _repeat(self, start: int, part: Repeat) -> int:
        for _ in range(part.low):
            following = self.add(start, part.body)
            if following == start:
                return start  # nothing, however often
            start = following
        if part.high is None:
            start = self.linked(start)
            self.empty[self.add(start, part.body)].append(start)
            return self.linked(start)
        end = self.node()
        for _ in range(part.high - part.low):
            self.empty[start].append(end)
            start = self.add(self.linked(start), part.body)
        self.empty[start].append(end)
        return end

    def closure(self, nodes: Iterable[int]) -> frozenset[int]:
        found: set[int] = set()
        left = list(nodes)
        while left:
            node = left.pop()
            if node in found:
                continue
            found.add(node)
            left.extend(self.empty[node])
            self.work += 1 + len(self.empty[node])
        if self.work > WORK:
            raise TooLargeError("the expression has too many ways to be read")
        # Only nodes with an edge, and the end, tell two sets apart.
        return frozenset(node for node in found if self.edges[node] or not self.empty[node])


def byte_dfa(expression: Node, limits: Limits) -> ByteDfa | None:
    """The automaton of an anchored expression; None where no text matches it.

    Raises:
        TooLargeError: it would be beyond a bound.
    """
    nodes = _Nodes(limits.expression_nodes)
    end = nodes.add(nodes.node(), expression)
    first = nodes.closure([0])
    number, order = {first: 0}, [first]
    rows: list[Ints] = []
    for state in order:  # grows while it is read
        row = np.full(256, -1, dtype=np.int64)
        edges = [edge for node in state for edge in nodes.edges[node]]
        nodes.work += len(edges)
        borders = sorted({low for low, _, _ in edges} | {high + 1 for _, high, _ in edges})
        if len(borders) * len(edges) > WORK >> 4:
            raise TooLargeError("the expression has too many ways to be read")
        for low, high in pairwise(borders):
            targets = {target for a, b, target in edges if a <= low <= b}
            nodes.work += len(edges) >> 3
            if not targets:
                continue
            following = nodes.closure(targets)
            if following not in number:
                if len(order) >= limits.states:
                    raise TooLargeError(f"the expression has more than {limits.states} states")
                number[following] = len(order)
                order.append(following)
            row[low:high] = number[following]
        rows.append(row)
    table = np.stack([*rows, np.full(256, -1)])
    table[table < 0] = len(order)
    return trimmed(table, np.array([*(end in state for state in order), False]))


def trimmed(table: Ints, is_final: NDArray[np.bool_]) -> ByteDfa | None:
    """Without states that no text can be completed from, and with equal ones merged."""
    dead = len(table) - 1
    is_live = is_final.copy()
    narrow = _narrow(table)
    while True:
        more = is_live | is_live[narrow].any(axis=1)
        more[dead] = False
        if (more == is_live).all():
            break
        is_live = more
    if not is_live[0]:
        return None
    table = np.where(is_live[table], table, dead)
    class_Q = _merged(table, is_final)
    # The start's class becomes state 0, the dead one's the last.
    names = [int(class_Q[0]), *(c for c in np.unique(class_Q[is_live]) if c != class_Q[0])]
    new = np.full(int(class_Q.max()) + 1, len(names), dtype=np.int64)
    new[names] = np.arange(len(names))
    sample = [int(np.flatnonzero(class_Q == name)[0]) for name in names]
    merged = np.vstack((new[class_Q[table[sample]]], np.full((1, 256), len(names))))
    return ByteDfa(merged.astype(np.int32), np.array([*is_final[sample], False]))


def _narrow(table: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """The table without columns that are there already: most bytes do what others do."""
    # Columns are told apart by a 64-bit sum of random weights instead of being sorted.
    weight_Q = np.random.default_rng(0).integers(1, 2**63, len(table), dtype=np.uint64)
    key = weight_Q @ table.astype(np.uint64)
    _, column, group = np.unique(key, return_index=True, return_inverse=True)
    narrow = table[:, column]
    if (narrow[:, group.reshape(-1)] == table).all():
        return narrow
    _, column = np.unique(table, axis=1, return_index=True)
    return table[:, column]


def _merged(table: Ints, is_final: NDArray[np.bool_]) -> Ints:
    """The class of each state: equal ones allow the same texts (Moore's refinement)."""
    narrow = _narrow(table)
    class_Q = is_final.astype(np.int64)
    class_Q[-1] = 2
    count = len(np.unique(class_Q))
    weights = np.random.default_rng(0).integers(1, 2**62, narrow.shape[1] + 1, dtype=np.int64)
    for _ in range(MAX_ROUNDS):
        # Signatures as 64-bit sums of random weights: sorting whole rows costs ten times as much.
        with np.errstate(over="ignore"):
            key_Q = (class_Q[narrow] * weights[:-1]).sum(axis=1) + class_Q * weights[-1]
        _, class_Q = np.unique(key_Q, return_inverse=True)
        class_Q = class_Q.reshape(-1)
        if (found := len(np.unique(class_Q))) == count:
            return class_Q
        count = found
    return np.arange(len(table))
