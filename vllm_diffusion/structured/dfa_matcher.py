"""Matchers of regular languages: over an automaton of tokens, or of bytes where that is too large.

Both know the exact way to the end of a text.

Shape suffixes: V vocabulary, Q states.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from vllm_diffusion.structured.matcher import Bits, packed, set_bit
from vllm_diffusion.structured.regex_dfa import ByteDfa
from vllm_diffusion.structured.token_dfa import FAR, Automaton
from vllm_diffusion.structured.token_ends import states_behind
from vllm_diffusion.structured.vocabulary import Vocabulary

if TYPE_CHECKING:
    from vllm_diffusion.kernels.cpu_constrained import NativeAutomaton

MAX_FORCED = 256
"""Tokens, or bytes, of a forced text that are looked at together."""
KEPT_BYTES = 4 << 20
"""Of what each automaton remembers of its states."""

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """What was found of states, the latest of them."""

    def __init__(self, bytes_each: int, num_states: int) -> None:
        self.most = min(max(KEPT_BYTES // max(bytes_each, 1), 8), num_states)
        self.most_bytes = self.most * bytes_each
        self._of: OrderedDict[int, Value] = OrderedDict()

    def get(self, state: int) -> Value | None:
        value = self._of.get(state)
        if value is not None:
            self._of.move_to_end(state)
        return value

    def put(self, state: int, value: Value) -> Value:
        self._of[state] = value
        if len(self._of) > self.most:
            self._of.popitem(last=False)
        return value


class TokenDfaTables:
    """An automaton over tokens, for all requests of one constraint and one set of stop tokens."""

    def __init__(self, automaton: Automaton, num_words: int) -> None:
        self.automaton, self.num_words = automaton, num_words
        self._bits: Kept[Bits] = Kept(num_words * 4, automaton.num_states)
        self.most_bytes = self._bits.most_bytes
        """Of what it will ever remember."""

    @cached_property
    def native(self) -> NativeAutomaton:
        """As C++ reads it."""
        # Not above: processes that compile do without torch.
        from vllm_diffusion.kernels.cpu_constrained import NativeAutomaton

        return NativeAutomaton(self.automaton)

    def bits(self, state: int) -> Bits:
        """Tokens that may follow a state."""
        known = self._bits.get(state)
        if known is not None:
            return known
        automaton = self.automaton
        is_open_C = np.zeros(automaton.num_classes + 1, dtype=np.bool_)
        is_open_C[automaton.class_E[automaton.edges_of(state)]] = True
        return self._bits.put(state, packed(is_open_C[automaton.class_V], self.num_words))


class TokenDfaMatcher:
    """A text's place in an automaton over tokens."""

    def __init__(self, tables: TokenDfaTables, state: int | None = None) -> None:
        self.tables = tables
        self.state = tables.automaton.start if state is None else state

    @property
    def is_done(self) -> bool:
        return self.state == self.tables.automaton.done

    def accept(self, token: int) -> bool:
        automaton = self.tables.automaton
        is_token = 0 <= token < len(automaton.class_V)
        state = automaton.step(self.state, token) if is_token else None
        if state is None:
            return False
        self.state = state
        return True

    def fill(self, bits_W: Bits) -> None:
        if self.is_done:
            bits_W.fill(0xFFFFFFFF)
        else:
            bits_W[:] = self.tables.bits(self.state)

    def forced(self) -> list[int]:
        automaton, state = self.tables.automaton, self.state
        path: list[int] = []
        while state != automaton.done and len(path) < MAX_FORCED:
            edges = automaton.edges_of(state)
            classes = automaton.class_E[edges]
            if len(classes) != 1 or automaton.size_C[classes[0]] != 1:
                break
            path.append(int(automaton.sample_C[classes[0]]))
            state = int(automaton.dst_E[edges][0])
        return path

    def ending(self, limit: int) -> list[int] | None:
        automaton, state = self.tables.automaton, self.state
        if automaton.distance_N[state] > limit:
            return None
        path: list[int] = []
        while state != automaton.done:
            edges = automaton.edges_of(state)
            nearest = int(automaton.distance_N[automaton.dst_E[edges]].argmin())
            path.append(int(automaton.sample_C[automaton.class_E[edges][nearest]]))
            state = int(automaton.dst_E[edges][nearest])
        return path

    def fork(self) -> TokenDfaMatcher:
        return TokenDfaMatcher(self.tables, self.state)


class ByteDfaTables:
    """An automaton over bytes and a vocabulary, for all requests of one constraint."""

    def __init__(self, dfa: ByteDfa, vocabulary: Vocabulary) -> None:
        self.dfa, self.vocabulary = dfa, vocabulary
        self.distance_Q = dfa.distances()
        self.is_live_Q = np.arange(len(dfa.table)) != dfa.dead
        if dfa.to_end is not None:
            self.is_live_Q &= dfa.to_end < FAR
        self._bits: Kept[Bits] = Kept(vocabulary.num_words * 4, len(dfa.table))
        self.most_bytes = self._bits.most_bytes + dfa.table.nbytes

    def bits(self, state: int) -> Bits:
        """Tokens, stop tokens left out, that may follow a state."""
        known = self._bits.get(state)
        if known is not None:
            return known
        state_V = states_behind(self.dfa, self.vocabulary, state)
        return self._bits.put(state, packed(self.is_live_Q[state_V], self.vocabulary.num_words))

    def nearest(self, state: int) -> int:
        """The token that leads furthest towards an end."""
        assert self.dfa.to_end is not None
        return int(self.dfa.to_end[states_behind(self.dfa, self.vocabulary, state)].argmin())


class ByteDfaMatcher:
    """A text's place in an automaton over bytes."""

    def __init__(
        self,
        tables: ByteDfaTables,
        stop_ids: tuple[int, ...],
        state: int = 0,
        is_done: bool = False,
    ) -> None:
        self.tables, self.stop_ids = tables, stop_ids
        self.state, self.is_done = state, is_done

    def accept(self, token: int) -> bool:
        if self.is_done:
            return True
        dfa = self.tables.dfa
        if token in self.stop_ids:
            self.is_done = bool(dfa.is_final[self.state])
            return self.is_done
        spelled = self.tables.vocabulary.spelled
        text = spelled[token] if 0 <= token < len(spelled) else b""
        state = self.state if text else dfa.dead
        for byte in text:
            state = int(dfa.table[state, byte])
        if not self.tables.is_live_Q[state]:
            return False
        self.state = state
        return True

    def fill(self, bits_W: Bits) -> None:
        if self.is_done:
            bits_W.fill(0xFFFFFFFF)
            return
        bits_W[:] = self.tables.bits(self.state)
        for token in self.stop_ids:
            set_bit(bits_W, token, bool(self.tables.dfa.is_final[self.state]))

    def forced(self) -> list[int]:
        dfa, state, text = self.tables.dfa, self.state, bytearray()
        while not dfa.is_final[state] and len(text) < MAX_FORCED:
            (following,) = np.nonzero(dfa.table[state] != dfa.dead)
            if len(following) != 1:
                break
            text.append(int(following[0]))
            state = int(dfa.table[state, following[0]])
        forced = self.tables.vocabulary.whole(bytes(text))
        if dfa.to_end is None:
            return forced
        other = self.fork()
        return list(itertools.takewhile(other.accept, forced))

    def ending(self, limit: int) -> list[int] | None:
        if self.is_done:
            return []
        vocabulary = self.tables.vocabulary
        text = self.tables.dfa.shortest(self.state, self.tables.distance_Q)
        for path in (vocabulary.cut(text), [vocabulary.token_of.get(bytes([b]), -1) for b in text]):
            path = [*path, self.stop_ids[0]]
            if len(path) <= limit and self._leads_to_end(path):
                return path
        return self._fewest_tokens(limit)

    def _fewest_tokens(self, limit: int) -> list[int] | None:
        """Where no token stands for some byte of the text with the fewest bytes."""
        to_end = self.tables.dfa.to_end
        if to_end is None or to_end[self.state] >= limit:
            return None
        other, path = self.fork(), []
        while to_end[other.state]:
            path.append(self.tables.nearest(other.state))
            other.accept(path[-1])
        return [*path, self.stop_ids[0]]

    def _leads_to_end(self, path: list[int]) -> bool:
        other = self.fork()
        return all(other.accept(token) for token in path) and other.is_done

    def fork(self) -> ByteDfaMatcher:
        return ByteDfaMatcher(self.tables, self.stop_ids, self.state, self.is_done)
