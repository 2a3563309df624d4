"""A short way to the end of a text in a grammar that is not regular.

llguidance does not say how a text ends, so its end is looked for byte by byte: greedily, with
quotes and closing brackets before anything else, which ends JSON of any depth; where that goes in
circles, breadth first. Texts of one length after which the same bytes may come, and might have
come in the steps before, are taken for equal, so that a loop is followed once, and a count as
often as it takes.

What is found is an end, but not always the nearest. The bound counts steps of the parser, not
time, so that every tensor-parallel rank finds the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_NODES = 4000
"""Steps of the parser that one search may take: some 30 ms."""
HISTORY = 2
"""Earlier steps that texts which are taken for equal have in common: a space may be all that can
follow both a comma and a keyword."""
QUOTE = 0x22
CLOSERS = b"\"}])></',:0123456789ntf{[ "
"""Bytes in the order in which they are tried. A quote comes first: within a string brackets are
text like any other, and a string that it begins is empty."""
BRACKETS = b"}])>\"/',:0123456789ntf{[ "
"""Where members and items may be left out, brackets first may be shorter."""
_OTHERS = bytes(byte for byte in (*range(0x20, 0x7F), *range(0x20), *range(0x7F, 256)))


def _order(first: bytes) -> np.ndarray:
    return np.array([*first, *(byte for byte in _OTHERS if byte not in first)], dtype=np.int64)


_ORDERS = (_order(CLOSERS), _order(BRACKETS))


class _Search:
    """Steps of the parser that are left, and what was learnt of them."""

    def __init__(self, num_nodes: int) -> None:
        self.left = num_nodes
        # Bytes that led to different places from where the same ones might come: others are
        # like one of them.
        self.apart: dict[bytes, list[int]] = {}

    def mask(self, matcher: Any) -> bytes:
        """The bytes that may come, as bits; empty at the text's end."""
        self.left -= 1
        if matcher.is_stopped() or matcher.is_accepting():
            return b""
        found: bytes = matcher.compute_bitmask()
        return found

    def fits(self, matcher: Any, text: bytes) -> bool:
        """Whether a text may come next."""
        self.left -= 1
        return bool(matcher.validate_tokens(list(text)) == len(text))

    def children(self, matcher: Any, mask: bytes) -> list[tuple[int, Any, bytes]]:
        """Bytes that may come next, and the parser and its bytes behind each."""
        known = self.apart.get(mask)
        options = _options(mask, _ORDERS[0]).tolist() if known is None else known
        out: dict[bytes, tuple[int, Any, bytes]] = {}
        for byte in options:
            child = matcher.deep_copy()
            if child.consume_token(byte):
                following = self.mask(child)
                if not following and child.is_error():
                    continue  # beyond a bound of the parser
                out.setdefault(following, (byte, child, following))
        if known is None:
            self.apart[mask] = [byte for byte, _, _ in out.values()]
        return list(out.values())


def _options(mask: bytes, order_C: np.ndarray) -> np.ndarray:
    if not mask:
        return order_C[:0]  # beyond a bound of the parser
    is_open = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little")[:256]
    found: np.ndarray = order_C[is_open[order_C] != 0]
    return found


def shortest_end(
    matcher: Any, limit: int, num_nodes: int | None = None, hints: Sequence[bytes] = ()
) -> bytes | None:
    """Bytes that bring the text to where it may end; None where none were found.

    Args:
        matcher: an ``LLMatcher`` over single bytes; left as it is.
        limit: most bytes.
        num_nodes: most steps of the parser; None for what a block may spend.
        hints: texts between quotes that patterns of the grammar allow; no step of the parser tells
            how far a pattern is from its end.
    """
    total = num_nodes or MAX_NODES
    search = _Search(total)
    if not search.mask(matcher):
        return None if matcher.is_error() else b""
    # Short ends first: what goes in circles would else use up what a short one takes.
    for share, length in ((total // 6, min(limit, 256)), (total, limit)):
        search.left = min(share, search.left)
        best: bytes | None = None
        for order_C in _ORDERS:
            most = length if best is None else len(best)
            best = _greedy(search, matcher.deep_copy(), order_C, most) or best
        if best is None:
            best = (
                _by_hints(search, matcher, hints, length)
                or _newest_first(search, matcher, length)
                or _breadth_first(search, matcher, length)
            )
        if best is not None:
            return best
        search.left = total - share
    return None


def _greedy(
    search: _Search,
    matcher: Any,
    order_C: np.ndarray,
    limit: int,
    hints: Sequence[bytes] = (),
) -> bytes | None:
    text = bytearray()
    for _ in range(min(limit, search.left // 4)):
        mask = search.mask(matcher)
        if not mask:
            return None if matcher.is_error() else bytes(text)
        options = _options(mask, order_C)
        if not len(options):
            return None
        following = bytes([int(options[0])])
        if hints and options[0] == QUOTE:
            following = next((hint for hint in hints if search.fits(matcher, hint)), following)
        if not matcher.consume_tokens(list(following)):
            return None
        text += following
    return None


def _by_hints(search: _Search, matcher: Any, hints: Sequence[bytes], limit: int) -> bytes | None:
    """The rest of a text that is known for the string under way, and such texts from there on."""
    for hint in hints:
        for at in range(len(hint)):
            if search.left <= 0:
                return None
            if search.fits(matcher, hint[at:]):
                child = matcher.deep_copy()
                child.consume_tokens(list(hint[at:]))
                rest = _greedy(search, child, _ORDERS[0], limit, hints)
                if rest is not None:
                    return hint[at:] + rest
    return _greedy(search, matcher.deep_copy(), _ORDERS[0], limit, hints) if hints else None


def _newest_first(search: _Search, matcher: Any, limit: int) -> bytes | None:
    """Leave every loop for what has been seen least: right for one part behind the other."""
    visits: Counter[bytes] = Counter()
    text, node, mask = bytearray(), matcher, search.mask(matcher)
    for _ in range(min(limit, search.left // 2)):
        children = search.children(node, mask)
        if not children or search.left <= 0:
            return None
        byte, node, mask = min(children, key=lambda child: visits[child[2]])
        visits[mask] += 1
        text.append(byte)
        if not mask:
            return None if node.is_error() else bytes(text)
    return None


def _breadth_first(search: _Search, matcher: Any, limit: int) -> bytes | None:
    layer: list[tuple[Any, bytes, tuple[bytes, ...]]] = [(matcher, b"", (search.mask(matcher),))]
    for _ in range(limit):
        following: dict[tuple[bytes, ...], tuple[Any, bytes]] = {}
        for node, text, history in layer:
            if search.left <= 0:
                return None
            for byte, child, mask in search.children(node, history[-1]):
                if not mask and not child.is_error():
                    return text + bytes([byte])
                key = (*history, mask)[-HISTORY - 1 :]
                following.setdefault(key, (child, text + bytes([byte])))
        if not following:
            return None
        layer = [(child, text, key) for key, (child, text) in following.items()]
    return None
