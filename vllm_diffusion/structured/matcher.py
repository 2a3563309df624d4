"""Where a text stands in its grammar: one face for xgrammar and llguidance.

vLLM's own wrappers of the two libraries cannot be forked and do not say what must come next,
which parallel acceptance needs.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Bits = NDArray[np.uint32]
"""(W,): 32 tokens a word, the first in the lowest bit."""


BACKENDS = ("xgrammar", "guidance")
"""vLLM's names of the libraries whose matchers can be forked and say what is forced."""


class Matcher(Protocol):
    """A position in a grammar; only moves forward."""

    @property
    def is_done(self) -> bool:
        """The text and its stop token are complete; anything may follow."""

    def accept(self, token: int) -> bool:
        """Move on by ``token`` if it may come next."""

    def fill(self, bits_W: Bits) -> None:
        """Set bit t of ``bits_W`` where token t may come next."""

    def forced_text(self) -> str:
        """The longest text that every continuation starts with, as far as the library knows."""

    def ending(self, limit: int) -> list[int] | None:
        """At most so many tokens to the text's end and its stop token; an empty list if that are
        too few, None from a library that does not know."""

    def fork(self) -> Matcher:
        """An independent copy."""


class XgrammarMatcher:
    """Around a ``GrammarMatcher``."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    @property
    def is_done(self) -> bool:
        return bool(self._matcher.is_terminated())

    def accept(self, token: int) -> bool:
        return bool(self._matcher.accept_token(token))

    def fill(self, bits_W: Bits) -> None:
        self._matcher.fill_next_token_bitmask(torch.from_numpy(bits_W.view(np.int32))[None], 0)

    def forced_text(self) -> str:
        return str(self._matcher.find_jump_forward_string())

    def ending(self, limit: int) -> list[int] | None:
        return None

    def fork(self) -> XgrammarMatcher:
        return XgrammarMatcher(self._matcher.fork())


class NoMatcher:
    """Of a grammar that could not be compiled: nothing may come, so the request ends at once."""

    is_done = False

    def accept(self, token: int) -> bool:
        return False

    def fill(self, bits_W: Bits) -> None:
        bits_W.fill(0)

    def forced_text(self) -> str:
        return ""

    def ending(self, limit: int) -> list[int] | None:
        return None

    def fork(self) -> NoMatcher:
        return self


class GuidanceMatcher:
    """Around an ``LLMatcher``, whose grammar may end before the stop token is there."""

    def __init__(self, matcher: Any, stop_ids: frozenset[int], is_done: bool = False) -> None:
        self._matcher = matcher
        self._stop_ids = stop_ids
        self._is_done = is_done

    @property
    def is_done(self) -> bool:
        return self._is_done

    def accept(self, token: int) -> bool:
        if token in self._stop_ids:
            self._is_done = bool(self._matcher.is_stopped() or self._matcher.is_accepting())
            return self._is_done
        if self._matcher.is_stopped() or self._matcher.validate_tokens([token]) == 0:
            return False
        return bool(self._matcher.consume_token(token))

    def fill(self, bits_W: Bits) -> None:
        bits_W.fill(0)
        is_stopped = self._matcher.is_stopped()
        if not is_stopped:
            allowed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint32)
            width = min(len(allowed), len(bits_W))
            bits_W[:width] = allowed[:width]
        may_stop = is_stopped or self._matcher.is_accepting()
        for token in self._stop_ids:
            bit = np.uint32(1 << token % 32)
            bits_W[token // 32] &= ~bit
            bits_W[token // 32] |= bit * np.uint32(may_stop)

    def forced_text(self) -> str:
        forced = b"" if self._matcher.is_stopped() else self._matcher.compute_ff_bytes()
        # A character that has only begun is left for later.
        return str(forced.decode("utf-8", errors="ignore"))

    def ending(self, limit: int) -> list[int] | None:
        return None

    def fork(self) -> GuidanceMatcher:
        return GuidanceMatcher(self._matcher.deep_copy(), self._stop_ids, self._is_done)


def is_allowed(bits_W: Bits, token: int) -> bool:
    """Is the token's bit set?"""
    return bool(bits_W[token // 32] >> np.uint32(token % 32) & np.uint32(1))


def first_allowed(bits_W: Bits, limit: int) -> list[int]:
    """The ``limit`` lowest tokens whose bit is set."""
    words = bits_W.nonzero()[0][:limit]
    of_word = np.unpackbits(bits_W[words].view(np.uint8), bitorder="little").reshape(-1, 32)
    word, bit = of_word.nonzero()
    tokens: list[int] = (words[word] * 32 + bit)[:limit].tolist()
    return tokens
