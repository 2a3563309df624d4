"""A short way to the end of a text: what is still needed when tokens run out.

A matcher of ours says how its text ends. The libraries do not, so an end is looked for: greedily,
with quotes and closing brackets before anything else, which ends JSON of any depth; where that
goes in circles, breadth first. Texts of one length after which the same tokens may come, and might
have come in the steps before, are taken for equal, so that a loop is followed once, and a count as
often as it takes.

What is found is an end, but not always the nearest.
"""

from __future__ import annotations

import numpy as np

from vllm_diffusion.structured.matcher import Bits, Matcher, first_allowed, is_allowed

MAX_NODES = 600
HISTORY = 2
"""Earlier steps that texts which are taken for equal have in common: a space may be all that can
follow both a comma and a keyword."""
CLOSERS = b"\"}])></',:0123456789ntf{[ "
"""Bytes in the order in which they are tried, all others behind them. A quote comes first: within
a string brackets are text like any other, and a string that it begins is empty."""


class Closing:
    """Finds ends of one request's text, and remembers them.

    Args:
        num_words: W.
        stop_ids: what may end the text.
        closers: tokens to try, in this order.
    """

    def __init__(self, num_words: int, stop_ids: tuple[int, ...], closers: tuple[int, ...]) -> None:
        self.bits_W: Bits = np.zeros(num_words, dtype=np.uint32)
        self.stop_ids = stop_ids
        self.closer_C = np.array(closers, dtype=np.int64)
        # Where members and items may be left out, brackets first may be shorter.
        self.brackets_first_C = np.concatenate(
            (self.closer_C[1:5], self.closer_C[[0]], self.closer_C[5:])
        )
        self.known: dict[bytes, list[int]] = {}

    def path(self, matcher: Matcher, limit: int) -> list[int] | None:
        """Tokens that bring the text to its end, the stop token included.

        Args:
            matcher: where the text stands.
            limit: most tokens.

        Returns:
            None where none was found.
        """
        if limit <= 0:
            return None
        state = self._state(matcher)
        if (self.bits_W == 0xFFFFFFFF).all():
            return None  # thoughts: nothing says where they end
        told = matcher.ending(limit)
        if told is not None:
            return told or None
        known = self.known.get(state)
        if known is not None and len(known) <= limit and _leads_to_end(matcher.fork(), known):
            return known
        path = self._greedy(matcher.fork(), self.closer_C, limit)
        shortest = limit if path is None else len(path) - 1
        path = self._greedy(matcher.fork(), self.brackets_first_C, shortest) or path
        path = path or self._breadth_first(matcher, limit)
        if path is not None:
            self.known[state] = path
        return path

    def _state(self, matcher: Matcher) -> bytes:
        matcher.fill(self.bits_W)
        return self.bits_W.tobytes()

    def _options(self, closer_C: np.ndarray) -> list[int]:
        """Tokens to try next, the best first; a stop token alone where the text may end."""
        for token in self.stop_ids:
            if is_allowed(self.bits_W, token):
                return [token]
        shift_C = (closer_C % 32).astype(np.uint32)
        is_allowed_C = self.bits_W[closer_C // 32] >> shift_C & np.uint32(1)
        found: list[int] = closer_C[is_allowed_C.nonzero()].tolist()
        return found

    def _greedy(self, matcher: Matcher, closer_C: np.ndarray, limit: int) -> list[int] | None:
        path: list[int] = []
        while len(path) < limit:
            self._state(matcher)
            options = self._options(closer_C) or first_allowed(self.bits_W, 1)
            if not options or not matcher.accept(options[0]):
                return None
            path.append(options[0])
            if matcher.is_done:
                return path
        return None

    def _breadth_first(self, matcher: Matcher, limit: int) -> list[int] | None:
        layer: list[tuple[Matcher, list[int], tuple[bytes, ...]]] = [(matcher, [], ())]
        num_nodes = 0
        for _ in range(limit):
            following: dict[tuple[bytes, ...], tuple[Matcher, list[int]]] = {}
            for node, path, before in layer:
                num_nodes += 1
                history = (*before, self._state(node))[-HISTORY:]
                for token in self._options(self.closer_C) or first_allowed(self.bits_W, 1):
                    child = node.fork()
                    if not child.accept(token):
                        continue
                    if child.is_done:
                        return [*path, token]
                    key = (*history, self._state(child))
                    following.setdefault(key, (child, [*path, token]))
            layer = [(child, path, key[:-1]) for key, (child, path) in following.items()]
            if num_nodes > MAX_NODES:
                break
        return None


def _leads_to_end(matcher: Matcher, path: list[int]) -> bool:
    return all(matcher.accept(token) for token in path) and matcher.is_done
