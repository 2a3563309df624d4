"""Keywords that must come and texts that must not, as an automaton over UTF-8 bytes.

Aho and Corasick's automaton of all texts, together with one that knows where a character ends.
Which keywords have been found is kept beside the state as bits, so that the automaton stays as
small as the texts are; how many characters a text still needs is a table over both. Each byte is
taken for a token, as in any vocabulary that can spell every text.

Shape suffixes: S states (the last one is dead), M sets of found keywords, C classes of bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vllm_diffusion.request.lexical import LexicalConstraints
from vllm_diffusion.structured.regex_dfa import ByteDfa, trimmed
from vllm_diffusion.structured.vocabulary import IS_LEAD

Ints = NDArray[np.int64]

FAR = 1 << 30
"""Characters that a text needs which cannot be completed."""
MAX_PRODUCT = 1 << 12
"""Most states of the automaton that keeps found keywords in its states."""
_NICE = b" .,-_;:\n" + bytes(range(0x30, 0x3A)) + bytes(range(0x61, 0x7B))
"""Bytes that a text is better filled with than others."""
_WHOLE = (0, 0, 0)
_LEADS = (
    (0xC2, 0xDF, (0x80, 0xBF, 1)),
    (0xE0, 0xE0, (0xA0, 0xBF, 2)),
    (0xE1, 0xEC, (0x80, 0xBF, 2)),
    (0xED, 0xED, (0x80, 0x9F, 2)),
    (0xEE, 0xEF, (0x80, 0xBF, 2)),
    (0xF0, 0xF0, (0x90, 0xBF, 3)),
    (0xF1, 0xF3, (0x80, 0xBF, 3)),
    (0xF4, 0xF4, (0x80, 0x8F, 3)),
)
"""First bytes of characters, and the next byte's range and how many follow."""


def _characters() -> Ints:
    """Where a character stands behind each byte: (9, 256), 0 between characters, -1 for none."""
    pending = [_WHOLE, *((0x80, 0xBF, n) for n in (1, 2, 3))]
    pending += [after for _, _, after in _LEADS if after not in pending]
    next_U = np.full((len(pending), 256), -1, dtype=np.int64)
    next_U[0, :0x80] = 0
    for low, high, after in _LEADS:
        next_U[0, low : high + 1] = pending.index(after)
    for at, (low, high, left) in enumerate(pending[1:], 1):
        next_U[at, low : high + 1] = pending.index((0x80, 0xBF, left - 1)) if left > 1 else 0
    return next_U


CHARACTERS = _characters()


def _search(texts: list[bytes]) -> tuple[Ints, list[set[int]]]:
    """Aho and Corasick's automaton: next nodes (N, 256), and the texts that end at each."""
    children: list[dict[int, int]] = [{}]
    ends: list[set[int]] = [set()]
    for index, text in enumerate(texts):
        node = 0
        for byte in text:
            if byte not in children[node]:
                children[node][byte] = len(children)
                children.append({})
                ends.append(set())
            node = children[node][byte]
        ends[node].add(index)
    next_N = np.zeros((len(children), 256), dtype=np.int64)
    fail = [0] * len(children)
    queue = deque([0])
    while queue:
        node = queue.popleft()
        next_N[node] = next_N[fail[node]] if node else 0
        for byte, child in children[node].items():
            fail[child] = int(next_N[fail[node], byte]) if node else 0
            ends[child] |= ends[fail[child]]
            next_N[node, byte] = child
            queue.append(child)
    return next_N, ends


@dataclass(frozen=True, slots=True, eq=False)
class Phrases:
    """Where a text stands with what is asked of its words; it starts in state 0."""

    lexical: LexicalConstraints
    table: Ints
    """(S, 256): the state behind each byte."""
    found_S: Ints
    """Bits of the keywords that end in a state."""
    is_whole_S: NDArray[np.bool_]
    """The last character is complete."""
    need_MS: Ints
    """Fewest characters to where all keywords have been found."""

    @property
    def dead(self) -> int:
        return len(self.table) - 1

    @property
    def all_found(self) -> int:
        return len(self.need_MS) - 1

    @property
    def most_needed(self) -> int:
        """By any state that a text may be in."""
        return int(self.need_MS[:, :-1].max())

    def walk(self, text: bytes, state: int = 0, found: int = 0) -> tuple[int, int]:
        """State and found keywords behind some bytes."""
        for byte in text:
            state = int(self.table[state, byte])
            found |= int(self.found_S[state])
        return state, found

    def may_end(self, state: int, found: int, num_chars: int) -> bool:
        return (
            found == self.all_found
            and bool(self.is_whole_S[state])
            and num_chars >= self.lexical.min_chars
        )

    def endings(self, state: int, found: int, num_chars: int) -> Iterator[list[bytes]]:
        """Texts in pieces that bring it to its end, the one that reads better first."""
        rest = self._rest_of_character(state)
        state, found = self.walk(rest, state, found)
        for words in (self._apart(state, found, num_chars), self._shortest(state, found)):
            length = num_chars + len(words.decode())
            padding = self.lexical.min_chars - length
            limit = self.lexical.max_chars
            if self.walk(words, state, found)[1] != self.all_found:
                continue
            if limit is None or length <= limit:
                yield [rest, words, *self._padding(padding)]

    def _rest_of_character(self, state: int) -> bytes:
        rest = b""
        while not self.is_whole_S[state]:
            need_B = self.need_MS[self.all_found, self.table[state]]
            rest += bytes([int(need_B.argmin())])
            state = int(self.table[state, rest[-1]])
        return rest

    def _apart(self, state: int, found: int, num_chars: int) -> bytes:
        """Each missing keyword behind a space."""
        words = b""
        for index, keyword in enumerate(self.lexical.keywords):
            if not found >> index & 1:
                word = (b" " if words or num_chars else b"") + keyword.encode()
                words += word
                state, found = self.walk(word, state, found)
        return words if state != self.dead else b""

    def _shortest(self, state: int, found: int) -> bytes:
        words = b""
        while found != self.all_found or not self.is_whole_S[state]:
            next_B = self.table[state]
            need_B = self.need_MS[found | self.found_S[next_B], next_B] + IS_LEAD
            best = np.flatnonzero(need_B == need_B.min()).tolist()
            words += bytes([next((byte for byte in _NICE if byte in best), best[0])])
            state, found = self.walk(words[-1:], state, found)
        return words

    def _padding(self, num_chars: int) -> Iterator[bytes]:
        """So many characters that are in none of the texts, in pieces."""
        taken = "".join((*self.lexical.keywords, *self.lexical.without))
        nice = (chr(byte) for byte in _NICE)
        others = (chr(code) for code in range(0x21, 0xD800))
        char = next(char for options in (nice, others) for char in options if char not in taken)
        for first in range(0, num_chars, 64):
            yield char.encode() * min(64, num_chars - first)

    def byte_dfa(self) -> ByteDfa | None:
        """With found keywords in its states, without lengths; None where it would be large."""
        number, order = {(0, 0): 0}, [(0, 0)]
        rows = []
        for state, found in order:  # grows while it is read
            row = np.full(256, -1, dtype=np.int64)
            next_B = self.table[state]
            pair_B = next_B * len(self.need_MS) + (found | self.found_S[next_B])
            for pair in np.unique(pair_B[next_B != self.dead]).tolist():
                following = divmod(pair, len(self.need_MS))
                if following not in number:
                    if len(order) >= MAX_PRODUCT:
                        return None
                    number[following] = len(order)
                    order.append(following)
                row[(pair_B == pair) & (next_B != self.dead)] = number[following]
            rows.append(row)
        table = np.stack([*rows, np.full(256, -1)])
        table[table < 0] = len(order)
        is_final = [found == self.all_found and bool(self.is_whole_S[s]) for s, found in order]
        return trimmed(table, np.array([*is_final, False]))


@lru_cache(maxsize=64)
def phrases_of(lexical: LexicalConstraints) -> Phrases:
    """Make the automaton of what is asked of a text's words."""
    keywords = [text.encode() for text in lexical.keywords]
    next_N, ends = _search([*keywords, *(text.encode() for text in lexical.without)])
    num_keywords = len(keywords)
    found_N = [sum(1 << index for index in end if index < num_keywords) for end in ends]
    is_bad_N = np.array([any(index >= num_keywords for index in end) for end in ends])
    num_characters = len(CHARACTERS)
    number, order = {0: 0}, [0]
    rows = []
    for code in order:  # grows while it is read
        node, character = divmod(code, num_characters)
        next_B = CHARACTERS[character]
        is_open_B = (next_B >= 0) & ~is_bad_N[next_N[node]]
        code_B = next_N[node] * num_characters + next_B
        row = np.full(256, -1, dtype=np.int64)
        for following in np.unique(code_B[is_open_B]).tolist():
            if following not in number:
                number[following] = len(order)
                order.append(following)
            row[is_open_B & (code_B == following)] = number[following]
        rows.append(row)
    table = np.stack([*rows, np.full(256, -1)])
    table[table < 0] = len(order)
    found_S = np.array([*(found_N[code // num_characters] for code in order), 0])
    is_whole_S = np.array([*(code % num_characters == 0 for code in order), False])
    need_MS = _needs(table, found_S, is_whole_S, 1 << num_keywords)
    # A character that every completion of would end a text that is kept out.
    is_stuck_S = need_MS[-1] >= FAR
    table[is_stuck_S[table]] = len(order)
    return Phrases(lexical, table, found_S, is_whole_S, need_MS)


def _needs(table: Ints, found_S: Ints, is_whole_S: NDArray[np.bool_], num_sets: int) -> Ints:
    dead = len(table) - 1
    columns = np.concatenate((table, IS_LEAD[None]))
    _, first_C = np.unique(columns, axis=1, return_index=True)
    next_SC, cost_C = table[:, first_C], IS_LEAD[first_C].astype(np.int64)
    new_SC = found_S[next_SC]
    need_MS = np.full((num_sets, len(table)), FAR, dtype=np.int64)
    need_MS[-1, is_whole_S] = 0
    for found in sorted(range(num_sets), key=int.bit_count, reverse=True):
        is_same_SC = new_SC & ~found == 0
        others_SC = np.where(is_same_SC, FAR, need_MS[found | new_SC, next_SC] + cost_C)
        best_S = np.minimum(need_MS[found], others_SC.min(axis=1))
        same_SC = np.where(is_same_SC, next_SC, dead)
        while True:
            before_S = best_S
            best_S = np.minimum(best_S, (best_S[same_SC] + cost_C).min(axis=1))
            best_S[dead] = FAR
            if (best_S == before_S).all():
                break
        need_MS[found] = np.minimum(best_S, FAR)
    return need_MS
