"""A short way to the end of a text: what is still needed when tokens run out.

The libraries do not say how far a text is from its end, so one is looked for: first greedily,
with closing brackets and quotes before anything else, which ends JSON of any depth; where that
goes in circles, breadth first over the tokens of one character, up to ``MAX_NODES`` texts.
What is found is not always the shortest.
"""

from __future__ import annotations

from collections import deque

from vllm_diffusion.grammar.matcher import Bits, Matcher, first_allowed, is_allowed

MAX_NODES = 256
CLOSERS = '}])>"' + "'0123456789ntf{[,: abcdefghijklmopqrsuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._/\n"
"""Characters in the order in which they are tried: what ends something first, and ``"`` before a
number, since an empty string is shorter than most."""


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
    return ways.greedy(matcher.fork(), limit) or ways.breadth_first(matcher, limit)


class _Ways:
    def __init__(
        self,
        bits_W: Bits,
        stop_ids: tuple[int, ...],
        closers: tuple[int, ...],
    ) -> None:
        self.bits_W = bits_W
        self.stop_ids, self.closers = stop_ids, closers

    def options(self, matcher: Matcher) -> list[int]:
        """Tokens to try next, the best first; a stop token alone where the text may end."""
        matcher.fill(self.bits_W)
        for token in self.stop_ids:
            if is_allowed(self.bits_W, token):
                return [token]
        found = [token for token in self.closers if is_allowed(self.bits_W, token)]
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
