"""Where a text stands in what it is held to: one face for every mechanism.

Three mechanisms, each exact, from the one that knows most to the one that bears most: an automaton
over tokens (``token_dfa``), one over bytes (``byte_dfa``), and llguidance's parser
(``grammar_matcher``). ``lexical`` follows keywords and lengths, ``reasoning`` and ``budget`` what
stands in front of an answer.

Shape suffixes: V vocabulary, W words of 32 bits.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint32]
"""(W,): 32 tokens a word, the first in the lowest bit."""


class Matcher(Protocol):
    """A position in a constraint; only moves forward."""

    @property
    def is_done(self) -> bool:
        """The text and its stop token are complete; anything may follow."""

    def accept(self, token: int) -> bool:
        """Move on by ``token`` if it may come next."""

    def fill(self, bits_W: Bits) -> None:
        """Set bit t of ``bits_W`` where token t may come next."""

    def forced(self) -> list[int]:
        """Tokens that every continuation starts with, as far as that is known."""

    def ending(self, limit: int) -> list[int] | None:
        """At most so many tokens to the text's end, its stop token included; None where none is
        found, or where nothing says what the end is."""

    def fork(self) -> Matcher:
        """An independent copy."""


class DeadEndError(RuntimeError):
    """A constraint that allows nothing more: its request ends, others go on."""


def is_allowed(bits_W: Bits, token: int) -> bool:
    """Is the token's bit set?"""
    return bool(bits_W[token // 32] >> np.uint32(token % 32) & np.uint32(1))


def set_bit(bits_W: Bits, token: int, value: bool) -> None:
    """Set or clear the token's bit."""
    bit = np.uint32(1 << token % 32)
    if value:
        bits_W[token // 32] |= bit
    else:
        bits_W[token // 32] &= ~bit


def packed(is_set_V: NDArray[np.bool_], num_words: int) -> Bits:
    """Flags as bits."""
    bits_W = np.zeros(num_words, dtype=np.uint32)
    bytes_ = np.packbits(is_set_V, bitorder="little")
    bits_W.view(np.uint8)[: len(bytes_)] = bytes_
    return bits_W


def first_allowed(bits_W: Bits, limit: int) -> list[int]:
    """The ``limit`` lowest tokens whose bit is set."""
    words = bits_W.nonzero()[0][:limit]
    of_word = np.unpackbits(bits_W[words].view(np.uint8), bitorder="little").reshape(-1, 32)
    word, bit = of_word.nonzero()
    tokens: list[int] = (words[word] * 32 + bit)[:limit].tolist()
    return tokens


def leads_to_end(matcher: Matcher, path: list[int]) -> bool:
    """Whether the tokens bring the text to its end; moves on."""
    return all(token >= 0 and matcher.accept(token) for token in path) and matcher.is_done
