"""A regular language as an automaton over tokens.

Every token is walked through the automaton over bytes (``regex_dfa``) from each of its states.
Tokens that lead from each state to the same state are one *class*: what is decided in a block
depends on classes alone, and there are far fewer of them than tokens (DINGO, arXiv 2505.23061, and
Dang and Ermon, arXiv 2607.07026, work on such automata).

Shape suffixes: N states, V vocabulary, C classes, E edges, Q states of the automaton over bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vllm_diffusion.structured.regex_dfa import TooLargeError

Ints = NDArray[np.int64]

MAX_CELLS = 1 << 26
"""Most entries of the table that all tokens are walked in, Q V: 256 MiB while it is made."""
MAX_EDGES = 1 << 17
"""Each step of a request reads all edges once for each position of its block."""
MAX_FORCED = 256
"""Bytes of a forced text that are looked at together."""
FAR = 1 << 30
"""Distance of a state that no text leads out of."""


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """Edges between states that a text can still be completed from.

    The last state, ``done``, is where a stop token leads; every token leads from it to itself.
    """

    start: int
    src_E: Ints
    class_E: Ints
    dst_E: Ints
    class_V: Ints
    """Class of each token; 0 for those that never may come."""
    distance_N: Ints
    """Fewest tokens from each state to ``done``."""
    num_classes: int
    """C. One more, which holds every token, is the class of the edge from ``done`` to itself."""

    @property
    def num_states(self) -> int:
        return len(self.distance_N)

    @property
    def done(self) -> int:
        return self.num_states - 1

    def step(self, state: int, token: int) -> int | None:
        """The state behind ``token``; None where it may not come."""
        if state == self.done:
            return state
        found = np.flatnonzero((self.src_E == state) & (self.class_E == self.class_V[token]))
        return int(self.dst_E[found[0]]) if len(found) else None

    def fits(self, state: int, tokens: Sequence[int | None], slack: int) -> bool:
        """Whether the known tokens of a canvas can stand together.

        Args:
            state: before the canvas.
            tokens: of the canvas, None where there is none yet.
            slack: tokens that may follow the canvas.
        """
        is_live_N = np.zeros(self.num_states, dtype=np.bool_)
        is_live_N[state] = True
        for token in tokens:
            is_taken_E = is_live_N[self.src_E]
            if token is not None:
                is_loop_E = self.class_E == self.num_classes
                is_taken_E &= is_loop_E | (self.class_E == self.class_V[token])
            is_live_N = np.zeros_like(is_live_N)
            is_live_N[self.dst_E[is_taken_E]] = True
        # A request whose shortest text is longer than all it may emit never gets near its end.
        slack = max(slack, int(self.distance_N[state]) - len(tokens))
        return bool((self.distance_N[is_live_N] <= slack).any())


def _walk_tokens(table: Ints, spelled: Sequence[bytes], never: Sequence[int]) -> NDArray[np.int32]:
    """The state (Q, V) that each token leads to from each state, dead ones as Q."""
    dead = len(table) - 1
    if dead * len(spelled) > MAX_CELLS:
        raise TooLargeError(f"{dead} states of {len(spelled)} tokens are too many")
    small = table.astype(np.int32)
    lengths = np.array([len(text) for text in spelled])
    longest = int(lengths.max())
    bytes_VB = np.zeros((len(spelled), longest), dtype=np.uint8)
    for number, text in enumerate(spelled):
        bytes_VB[number, : len(text)] = np.frombuffer(text, dtype=np.uint8)
    next_QV = small[:dead, bytes_VB[:, 0]]
    # Most tokens leave most states' texts with their first byte; only the others go on.
    state, token = (next_QV != dead).nonzero()
    for at in range(1, longest):
        is_longer = lengths[token] > at
        state, token = state[is_longer], token[is_longer]
        reached = small[next_QV[state, token], bytes_VB[token, at]]
        next_QV[state, token] = reached
        is_alive = reached != dead
        state, token = state[is_alive], token[is_alive]
    next_QV[:, lengths == 0] = dead
    next_QV[:, list(never)] = dead
    return next_QV


def _classes(next_QV: NDArray[np.int32], dead: int) -> tuple[Ints, Ints]:
    """Class (V,) of each token, 0 for dead columns, and a token of each class but 0."""
    # Columns are told apart by a 64-bit sum of random weights instead of being sorted.
    weight_Q = np.random.default_rng(0).integers(1, 2**63, len(next_QV), dtype=np.uint64)
    key_V = np.zeros(next_QV.shape[1], dtype=np.uint64)
    for weight, row_V in zip(weight_Q, next_QV, strict=True):
        key_V += weight * (dead - row_V).astype(np.uint64)
    keys, first, class_V = np.unique(key_V, return_index=True, return_inverse=True)
    class_V = class_V.astype(np.int64).reshape(-1)
    has_dead = bool(len(keys)) and keys[0] == 0
    return (class_V, first[1:]) if has_dead else (class_V + 1, first)


def _distances(src_E: Ints, dst_E: Ints, is_goal_N: NDArray[np.bool_]) -> Ints:
    distance_N: Ints = np.where(is_goal_N, 0, FAR)
    for _ in range(len(is_goal_N)):
        before = distance_N.copy()
        np.minimum.at(distance_N, src_E, distance_N[dst_E] + 1)
        if (before == distance_N).all():
            break
    np.minimum(distance_N, FAR, out=distance_N)
    return distance_N


def _forced_run(table: Ints, is_final: NDArray[np.bool_], state: int) -> tuple[bytes, list[int]]:
    """What every text goes on with behind a state, and the states in front of each of its bytes."""
    dead, text, states = len(table) - 1, bytearray(), [state]
    while len(text) < MAX_FORCED and not is_final[state]:
        (following,) = np.nonzero(table[state] != dead)
        if len(following) != 1:
            break
        text.append(int(following[0]))
        state = int(table[state, following[0]])
        states.append(state)
    return bytes(text), states


def _as_the_tokenizer_cuts(
    next_QV: NDArray[np.int32],
    table: Ints,
    is_final: NDArray[np.bool_],
    length_V: Ints,
    encode: Callable[[str], list[int]],
) -> None:
    """Of all ways to cut a forced text into tokens leave the tokenizer's own, in place.

    They all stand for one text, and models are trained on this one. Where a token of the
    vocabulary reaches over the text's end, its last token may merge with what follows, and stays
    free.
    """
    dead = len(table) - 1
    longest_Q = np.where(next_QV != dead, length_V, 0).max(axis=1)
    for state in range(dead):
        text, states = _forced_run(table, is_final, state)
        tokens = encode(text.decode(errors="ignore")) if text else []
        is_cut = all(longest_Q[q] <= len(text) - at for at, q in enumerate(states[:-1]))
        if len(tokens) > 1 or (tokens and is_cut):
            following = next_QV[state, tokens[0]]
            if following != dead:
                next_QV[state] = dead
                next_QV[state, tokens[0]] = following


def over_tokens(
    table: Ints,
    is_final: NDArray[np.bool_],
    spelled: Sequence[bytes],
    stop_ids: Sequence[int],
    never: Sequence[int],
    encode: Callable[[str], list[int]] | None = None,
) -> Automaton:
    """The automaton of all texts that one over bytes accepts, and a stop token behind them.

    Args:
        table: (Q + 1, 256) and
        is_final: (Q + 1,) of ``expression.byte_table``.
        spelled: the bytes of V tokens.
        stop_ids: what may end the text, and nothing else.
        never: tokens that are not text: the mask, special ones.
        encode: text to tokens; forced texts are cut in this way alone. Without it in any way.

    Raises:
        TooLargeError: it would be beyond the bounds of this module.
        ValueError: no text of tokens matches it.
    """
    start = 0
    dead = len(table) - 1
    next_QV = _walk_tokens(table, spelled, [*never, *stop_ids])
    if encode is not None:
        length_V = np.array([len(text) for text in spelled])
        _as_the_tokenizer_cuts(next_QV, table, is_final, length_V, encode)
    class_V, sample = _classes(next_QV, dead)
    stop = len(sample) + 1
    class_V[list(stop_ids)] = stop
    # Edges by state and class; then the stops, and at last the loop of ``done``.
    src, column = np.nonzero(next_QV[:, sample] != dead)
    final = np.flatnonzero(is_final)
    done = dead
    src_E = np.concatenate((src, final, [done]))
    class_E = np.concatenate((column + 1, np.full(len(final), stop), [stop + 1]))
    dst_E = np.concatenate((next_QV[:, sample][src, column], np.full(len(final) + 1, done)))
    to_end = _distances(src_E, dst_E, np.arange(dead + 1) == done)
    from_start = _distances(dst_E, src_E, np.arange(dead + 1) == start)
    is_live = (to_end < FAR) & (from_start < FAR)
    if not is_live[start]:
        raise ValueError("no text of the vocabulary's tokens matches it")
    is_live[done] = True
    kept = is_live[src_E] & is_live[dst_E]
    number = np.cumsum(is_live) - 1
    if kept.sum() > MAX_EDGES:
        raise TooLargeError(f"{kept.sum()} edges are too many")
    return Automaton(
        start=int(number[start]),
        src_E=number[src_E[kept]],
        class_E=class_E[kept],
        dst_E=number[dst_E[kept]],
        class_V=class_V,
        distance_N=to_end[is_live],
        num_classes=stop + 1,
    )
