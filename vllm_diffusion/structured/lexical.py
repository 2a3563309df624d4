"""A text that is held to its keywords, to what it must not hold, and to its length.

Anything may come that leaves the text a way to where all keywords have been found within its
length; it may end there. What may come is found for the whole vocabulary at once, and depends on
the automaton's state alone, as long as the length has room for any token.

Shape suffixes: V vocabulary, W words of bits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vllm_diffusion.structured.lexical_dfa import IS_LEAD, Phrases
from vllm_diffusion.structured.matcher import Bits

MAX_KEPT = 64
"""States whose tokens are kept, for all requests that ask for the same."""


class Lexicon:
    """The bytes of a vocabulary's tokens.

    Args:
        spelled: V texts.
        num_words: W.
        never: tokens that are not text.
        encode: text to tokens, as the model would write it.
    """

    def __init__(
        self,
        spelled: Sequence[bytes],
        num_words: int,
        *,
        never: Sequence[int],
        encode: Callable[[str], list[int]],
    ) -> None:
        self.num_words, self.encode = num_words, encode
        banned = set(never)
        self.spelled = [b"" if t in banned else text for t, text in enumerate(spelled)]
        self.length_V = np.array([len(text) for text in self.spelled])
        self.bytes_VB = np.zeros((len(spelled), max(self.length_V.max(), 1)), dtype=np.uint8)
        for token, text in enumerate(self.spelled):
            self.bytes_VB[token, : len(text)] = np.frombuffer(text, dtype=np.uint8)
        is_inside_VB = np.arange(self.bytes_VB.shape[1]) < self.length_V[:, None]
        self.chars_V = (IS_LEAD[self.bytes_VB] & is_inside_VB).sum(axis=1)
        self.most_chars = int(self.chars_V.max())
        self.longer = [np.flatnonzero(self.length_V > at) for at in range(self.bytes_VB.shape[1])]
        self.token_of = {text: t for t, text in enumerate(self.spelled) if len(text) == 1}

    def cut(self, text: bytes) -> list[int]:
        """Bytes as tokens; those of a character that is not whole one by one."""
        try:
            return self.encode(text.decode()) if text else []
        except UnicodeDecodeError:
            return [self.token_of.get(text[at : at + 1], -1) for at in range(len(text))]

    def packed(self, is_set_V: NDArray[np.bool_]) -> Bits:
        """As the bits of a matcher."""
        bits_W = np.zeros(self.num_words, dtype=np.uint32)
        packed = np.packbits(is_set_V, bitorder="little")
        bits_W.view(np.uint8)[: len(packed)] = packed
        return bits_W


@dataclass(frozen=True, slots=True)
class Ahead:
    """Where each token leads to from one state."""

    state_V: NDArray[np.int32]
    found_V: NDArray[np.uint8]
    """Bits of the keywords that end on the way."""
    bits_W: Bits
    """Tokens that hold nothing that is kept out."""


class Reading:
    """A vocabulary read with one automaton."""

    def __init__(self, phrases: Phrases, lexicon: Lexicon) -> None:
        self.phrases, self.lexicon = phrases, lexicon
        self._ahead: OrderedDict[int, Ahead] = OrderedDict()

    def ahead(self, state: int) -> Ahead:
        """Where each token leads to."""
        if state not in self._ahead:
            self._ahead[state] = self._read(state)
            if len(self._ahead) > MAX_KEPT:
                self._ahead.popitem(last=False)
        self._ahead.move_to_end(state)
        return self._ahead[state]

    def _read(self, state: int) -> Ahead:
        phrases, lexicon = self.phrases, self.lexicon
        table, found_S = phrases.table.astype(np.int32), phrases.found_S.astype(np.uint8)
        state_V = np.full(len(lexicon.length_V), state, dtype=np.int32)
        found_V = np.zeros(len(state_V), dtype=np.uint8)
        for at, longer in enumerate(lexicon.longer):
            following = table[state_V[longer], lexicon.bytes_VB[longer, at]]
            state_V[longer] = following
            found_V[longer] |= found_S[following]
        state_V[lexicon.length_V == 0] = phrases.dead
        return Ahead(state_V, found_V, lexicon.packed(state_V != phrases.dead))


@dataclass(slots=True)
class WordingMatcher:
    """How far a text has come with what is asked of its words."""

    reading: Reading
    stop_ids: tuple[int, ...]
    state: int = 0
    found: int = 0
    """Bits of the keywords that it holds."""
    num_chars: int = 0
    is_done: bool = False

    @property
    def _may_end(self) -> bool:
        return self.reading.phrases.may_end(self.state, self.found, self.num_chars)

    def accept(self, token: int) -> bool:
        if token in self.stop_ids:
            self.is_done = self._may_end
            return self.is_done
        phrases, lexicon = self.reading.phrases, self.reading.lexicon
        text = lexicon.spelled[token] if token < len(lexicon.spelled) else b""
        state, found = phrases.walk(text, self.state, self.found)
        num_chars = self.num_chars + int(lexicon.chars_V[token]) if text else 0
        limit = phrases.wording.max_chars
        is_long = limit is not None and num_chars + phrases.need_MS[found, state] > limit
        if not text or state == phrases.dead or is_long:
            return False
        self.state, self.found, self.num_chars = state, found, num_chars
        return True

    def fill(self, bits_W: Bits) -> None:
        phrases, lexicon = self.reading.phrases, self.reading.lexicon
        ahead, limit = self.reading.ahead(self.state), phrases.wording.max_chars
        bits_W[:] = ahead.bits_W
        if limit is not None:
            left = limit - self.num_chars
            if left < lexicon.most_chars + phrases.most_needed:
                need_V = phrases.need_MS[ahead.found_V | self.found, ahead.state_V]
                bits_W[:] = lexicon.packed(need_V + lexicon.chars_V <= left)
        for token in self.stop_ids:
            bit = np.uint32(1 << token % 32)
            bits_W[token // 32] &= ~bit
            bits_W[token // 32] |= bit * np.uint32(self._may_end)

    def forced_text(self) -> str:
        return ""

    def ending(self, limit: int) -> list[int]:
        lexicon = self.reading.lexicon
        pieces: dict[bytes, list[int]] = {}
        for ending in self.reading.phrases.endings(self.state, self.found, self.num_chars):
            path: list[int] = []
            for piece in ending:
                if piece not in pieces:
                    pieces[piece] = lexicon.cut(piece)
                path += pieces[piece]
                if len(path) >= limit:
                    break
            else:
                path.append(self.stop_ids[0])
                if self.fork().follows(path):
                    return path
        return []

    def follows(self, path: Sequence[int]) -> bool:
        """Whether the path leads to the end; moves on."""
        return all(token >= 0 and self.accept(token) for token in path) and self.is_done

    def fork(self) -> WordingMatcher:
        return replace(self)
