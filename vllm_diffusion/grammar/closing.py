"""A short way to the end of a text: what is still needed when tokens run out.

The libraries do not say how far a text is from its end, so one is looked for: first greedily,
with quotes and closing brackets before anything else, which ends JSON of any depth; where that
goes in circles, breadth first over the tokens of one character, up to ``MAX_NODES`` texts.
What is found is not always the shortest.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from vllm_diffusion.grammar.matcher import Bits, Matcher, first_allowed, is_allowed

MAX_NODES = 256
CLOSERS = '"}])>' + "',:0123456789ntf{[ abcdefghijklmopqrsuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._/\n"
"""Characters in the order in which they are tried. A quote comes first: within a string brackets
are text like any other, and a string that it begins is empty."""


def closing(
    matcher: Matcher,
    bits_W: Bits,
    stop_ids: tuple[int, ...],
    closers: tuple[int, ...],
    limit: int,
) -> list[int] | None:
    """Tokens that bring the text to its end, the stop token included.

    Args:
        matcher: where the text stands; it is moved.
        bits_W: for the matcher to write to.
        stop_ids: what may end the text.
        closers: tokens to try, in this order.
        limit: most tokens.

    Returns:
        None where none was found.
    """
    if limit <= 0:
        return None
    ways = _Ways(bits_W, stop_ids, closers)
    path = ways.greedy(matcher.fork(), limit)
    # Where members and items may be left out, brackets first may be shorter.
    brackets_first = _Ways(bits_W, stop_ids, (*closers[1:5], *closers[:1], *closers[5:]))
    shorter = brackets_first.greedy(matcher.fork(), limit if path is None else len(path) - 1)
    return shorter or path or ways.breadth_first(matcher, limit)


class _Ways:
    def __init__(
        self,
        bits_W: Bits,
        stop_ids: tuple[int, ...],
        closers: tuple[int, ...],
    ) -> None:
        self.bits_W = bits_W
        self.stop_ids = stop_ids
        self.closer_C = np.array(closers, dtype=np.int64)
        self.word_C, self.bit_C = self.closer_C // 32, (self.closer_C % 32).astype(np.uint32)

    def options(self, matcher: Matcher) -> list[int]:
        """Tokens to try next, the best first; a stop token alone where the text may end."""
        matcher.fill(self.bits_W)
        for token in self.stop_ids:
            if is_allowed(self.bits_W, token):
                return [token]
        is_allowed_C = self.bits_W[self.word_C] >> self.bit_C & np.uint32(1)
        found: list[int] = self.closer_C[is_allowed_C.nonzero()].tolist()
        return found or first_allowed(self.bits_W, 1)

    def greedy(self, matcher: Matcher, limit: int) -> list[int] | None:
        path: list[int] = []
        while len(path) < limit:
            options = self.options(matcher)
            if not options or not matcher.accept(options[0]):
                return None
            path.append(options[0])
            if matcher.is_done:
                return path
        return None

    def breadth_first(self, matcher: Matcher, limit: int) -> list[int] | None:
        queue: deque[tuple[Matcher, list[int]]] = deque([(matcher, [])])
        num_nodes = 0
        while queue and num_nodes < MAX_NODES:
            node, path = queue.popleft()
            num_nodes += 1
            for token in self.options(node):
                child = node.fork()
                if not child.accept(token):
                    continue
                if child.is_done:
                    return [*path, token]
                if len(path) + 1 < limit:
                    queue.append((child, [*path, token]))
        return None
