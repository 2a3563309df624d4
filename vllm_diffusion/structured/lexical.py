"""A text that is held to its keywords, to what it must not hold, and to its length.

Anything may come that leaves the text a way to where all keywords have been found within its
length; it may end there. What may come is found for the whole vocabulary at once, and depends on
the automaton's state alone, as long as the length has room for any token.

Shape suffixes: V vocabulary, W words of bits.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vllm_diffusion.request.lexical import LexicalConstraints
from vllm_diffusion.structured.lexical_dfa import Phrases, phrases_of
from vllm_diffusion.structured.matcher import Bits, packed, set_bit
from vllm_diffusion.structured.vocabulary import Vocabulary

MAX_KEPT = 16
"""States whose tokens are kept, for all requests that ask for the same."""


def spec_of(lexical: LexicalConstraints) -> str:
    """What is asked, as a constraint's text."""
    return json.dumps(asdict(lexical), ensure_ascii=False)


def read_spec(spec: str) -> LexicalConstraints:
    """The opposite of ``spec_of``."""
    said: dict[str, Any] = json.loads(spec)
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in said.items()
    }
    return LexicalConstraints(**fields)


@dataclass(frozen=True, slots=True)
class Ahead:
    """Where each token leads to from one state."""

    state_V: NDArray[np.int32]
    found_V: NDArray[np.uint8]
    """Bits of the keywords that end on the way."""
    bits_W: Bits
    """Tokens that hold nothing that is kept out."""


class LexicalDFA:
    """A vocabulary read with one automaton."""

    def __init__(self, phrases: Phrases, vocabulary: Vocabulary) -> None:
        self.phrases, self.vocabulary = phrases, vocabulary
        self.most_chars = int(vocabulary.chars_V.max(initial=0))
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
        phrases, vocabulary = self.phrases, self.vocabulary
        table, found_S = phrases.table.astype(np.int32), phrases.found_S.astype(np.uint8)
        state_V = np.full(len(vocabulary.length_V), state, dtype=np.int32)
        found_V = np.zeros(len(state_V), dtype=np.uint8)
        for at, longer in enumerate(vocabulary.longer):
            following = table[state_V[longer], vocabulary.bytes_VB[longer, at]]
            state_V[longer] = following
            found_V[longer] |= found_S[following]
        state_V[vocabulary.length_V == 0] = phrases.dead
        return Ahead(state_V, found_V, packed(state_V != phrases.dead, vocabulary.num_words))


@dataclass(slots=True)
class LexicalMatcher:
    """How far a text has come with what is asked of its words."""

    reading: LexicalDFA
    stop_ids: tuple[int, ...]
    state: int = 0
    found: int = 0
    """Bits of the keywords that it holds."""
    num_chars: int = 0
    is_done: bool = False

    @classmethod
    def of(
        cls, lexical: LexicalConstraints, vocabulary: Vocabulary, stop_ids: tuple[int, ...]
    ) -> LexicalMatcher:
        """At the start of a text."""
        return cls(LexicalDFA(phrases_of(lexical), vocabulary), stop_ids)

    @property
    def _may_end(self) -> bool:
        return self.reading.phrases.may_end(self.state, self.found, self.num_chars)

    def accept(self, token: int) -> bool:
        if self.is_done:
            return True
        if token in self.stop_ids:
            self.is_done = self._may_end
            return self.is_done
        phrases, vocabulary = self.reading.phrases, self.reading.vocabulary
        text = vocabulary.spelled[token] if 0 <= token < vocabulary.size else b""
        state, found = phrases.walk(text, self.state, self.found)
        num_chars = self.num_chars + int(vocabulary.chars_V[token]) if text else 0
        limit = phrases.lexical.max_chars
        is_long = limit is not None and num_chars + phrases.need_MS[found, state] > limit
        if not text or state == phrases.dead or is_long:
            return False
        self.state, self.found, self.num_chars = state, found, num_chars
        return True

    def fill(self, bits_W: Bits) -> None:
        if self.is_done:
            bits_W.fill(0xFFFFFFFF)
            return
        phrases, vocabulary = self.reading.phrases, self.reading.vocabulary
        ahead, limit = self.reading.ahead(self.state), phrases.lexical.max_chars
        bits_W[:] = ahead.bits_W
        if limit is not None:
            left = limit - self.num_chars
            if left < self.reading.most_chars + phrases.most_needed:
                need_V = phrases.need_MS[ahead.found_V | self.found, ahead.state_V]
                bits_W[:] = packed(need_V + vocabulary.chars_V <= left, vocabulary.num_words)
        for token in self.stop_ids:
            set_bit(bits_W, token, self._may_end)

    def forced(self) -> list[int]:
        return []

    def ending(self, limit: int) -> list[int] | None:
        if self.is_done:
            return []
        vocabulary = self.reading.vocabulary
        pieces: dict[bytes, list[int]] = {}
        for ending in self.reading.phrases.endings(self.state, self.found, self.num_chars):
            path: list[int] = []
            for piece in ending:
                if piece not in pieces:
                    pieces[piece] = vocabulary.cut(piece)
                path += pieces[piece]
                if len(path) >= limit:
                    break
            else:
                path.append(self.stop_ids[0])
                if self.fork().follows(path):
                    return path
        return None

    def follows(self, path: Sequence[int]) -> bool:
        """Whether the path leads to the end; moves on."""
        return all(token >= 0 and self.accept(token) for token in path) and self.is_done

    def fork(self) -> LexicalMatcher:
        return replace(self)
