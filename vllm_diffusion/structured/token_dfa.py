"""A regular language as an automaton over tokens.

Every token is walked through the automaton over bytes from each of its states. Tokens that lead
from each state to the same state are one *class*: what is decided in a block depends on classes
alone, and there are far fewer of them than tokens (DINGO, arXiv 2505.23061, and Dang and Ermon,
arXiv 2607.07026, work on such automata).

Shape suffixes: N states, V vocabulary, C classes, E edges, Q states of the automaton over bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vllm_diffusion.structured.constraint import TooLargeError
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.regex_dfa import ByteDfa
from vllm_diffusion.structured.token_classes import TokenClasses
from vllm_diffusion.structured.vocabulary import Vocabulary

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]

MAX_FORCED = 64
"""Bytes of a forced text that are looked at together."""
FAR = 1 << 30
"""Distance of a state that no text leads out of."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenDfa:
    """Edges between states that a text can still be completed from; state 0 is the start."""

    src_E: Ids
    """Sorted."""
    class_E: Ids
    dst_E: Ids
    class_V: Ids
    """Class of each token; 0 for those that never may come."""
    is_final_N: NDArray[np.bool_]
    num_classes: int
    """C, the class 0 included."""


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """A ``TokenDfa`` with the stop tokens of a request.

    The last state, ``done``, is where a stop token leads; every token leads from it to itself.
    """

    start: int
    src_E: Ints
    """Sorted."""
    class_E: Ints
    dst_E: Ints
    class_V: Ids
    """Class of each token; 0 for those that never may come."""
    distance_N: Ints
    """Fewest tokens from each state to ``done``."""
    num_classes: int
    """C. One more, which holds every token, is the class of the edge from ``done`` to itself."""
    first_edge_N: Ints
    """(N + 1,): where each state's edges begin."""
    sample_C: Ints
    """A token of each class; -1 for the class 0."""
    size_C: Ints
    """Tokens of each class."""
    classes: TokenClasses
    """``class_V``, as rows of logits are read by it."""

    @property
    def num_states(self) -> int:
        return len(self.distance_N)

    @property
    def done(self) -> int:
        return self.num_states - 1

    def edges_of(self, state: int) -> slice:
        return slice(int(self.first_edge_N[state]), int(self.first_edge_N[state + 1]))

    def step(self, state: int, token: int) -> int | None:
        """The state behind ``token``; None where it may not come."""
        if state == self.done:
            return state
        edges = self.edges_of(state)
        found = np.flatnonzero(self.class_E[edges] == self.class_V[token])
        return int(self.dst_E[edges][found[0]]) if len(found) else None


def automaton_of(dfa: TokenDfa, stop_ids: Sequence[int]) -> Automaton:
    """The automaton of a request that ends with one of ``stop_ids``.

    Raises:
        ValueError: no text is left, because a stop token is one that every text needs.
    """
    stop, done = dfa.num_classes, len(dfa.is_final_N)
    class_V = dfa.class_V.copy()
    class_V[list(stop_ids)] = stop
    size_C = np.bincount(class_V, minlength=stop + 1)
    is_kept_E = size_C[dfa.class_E] > 0
    final = np.flatnonzero(dfa.is_final_N)
    src_E = np.concatenate((dfa.src_E[is_kept_E], final, [done]))
    class_E = np.concatenate((dfa.class_E[is_kept_E], np.full(len(final), stop), [stop + 1]))
    dst_E = np.concatenate((dfa.dst_E[is_kept_E], np.full(len(final) + 1, done)))
    distance_N = distances(src_E, dst_E, np.arange(done + 1) == done)
    if distance_N[0] >= FAR:
        raise ValueError("no text of the vocabulary's tokens matches it")
    is_kept_E = distance_N[dst_E] < FAR
    src_E, class_E, dst_E = src_E[is_kept_E], class_E[is_kept_E], dst_E[is_kept_E]
    order = np.argsort(src_E, kind="stable")
    src_E, class_E, dst_E = src_E[order], class_E[order], dst_E[order]
    sample_C = np.full(stop + 1, -1, dtype=np.int64)
    tokens = np.flatnonzero(class_V)[::-1]
    sample_C[class_V[tokens]] = tokens
    return Automaton(
        start=0,
        src_E=src_E.astype(np.int64),
        class_E=class_E.astype(np.int64),
        dst_E=dst_E.astype(np.int64),
        class_V=class_V,
        distance_N=distance_N,
        num_classes=stop + 1,
        first_edge_N=np.searchsorted(src_E, np.arange(done + 2)),
        sample_C=sample_C,
        size_C=size_C,
        classes=TokenClasses(class_V, stop + 1),
    )


def walk_tokens(dfa: ByteDfa, vocabulary: Vocabulary, limits: Limits) -> Ids:
    """The state (Q, V) that each token leads to from each state, dead ones as Q."""
    dead = dfa.dead
    if dead * vocabulary.size > limits.cells:
        raise TooLargeError(f"{dead} states of {vocabulary.size} tokens are too many")
    bytes_VB, length_V = vocabulary.bytes_VB, vocabulary.length_V
    next_QV = dfa.table[:dead, bytes_VB[:, 0]]
    next_QV[:, length_V == 0] = dead
    # Most tokens leave most states' texts with their first byte; only the others go on.
    state, token = ((next_QV != dead) & (length_V > 1)).nonzero()
    for at in range(1, bytes_VB.shape[1]):
        reached = dfa.table[next_QV[state, token], bytes_VB[token, at]]
        next_QV[state, token] = reached
        goes_on = (reached != dead) & (length_V[token] > at + 1)
        state, token = state[goes_on], token[goes_on]
        if not len(state):
            break
    return next_QV


def _classes(next_QV: Ids, dead: int) -> tuple[Ints, Ints]:
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


def distances(src_E: Ints, dst_E: Ints, is_goal_N: NDArray[np.bool_]) -> Ints:
    """Fewest edges from each state to a goal."""
    distance_N: Ints = np.where(is_goal_N, 0, FAR)
    # One edge of a pair of states is as good as many.
    pairs = np.unique(src_E.astype(np.int64) * len(is_goal_N) + dst_E)
    src_E, dst_E = np.divmod(pairs, len(is_goal_N))
    starts = np.flatnonzero(np.diff(src_E, prepend=-1))
    states = src_E[starts]
    for _ in range(len(is_goal_N)):
        if not len(states):
            break
        best = np.minimum.reduceat(distance_N[dst_E] + 1, starts)
        if (best >= distance_N[states]).all():
            break
        distance_N[states] = np.minimum(distance_N[states], best)
    np.minimum(distance_N, FAR, out=distance_N)
    return distance_N


def _as_the_tokenizer_cuts(
    next_QV: Ids, dfa: ByteDfa, length_V: Ints, encode: Callable[[str], list[int]]
) -> None:
    """Of all ways to cut a forced text into tokens leave the tokenizer's own, in place.

    They all stand for one text, and models are trained on this one. Where a token of the
    vocabulary reaches over the text's end, its last token may merge with what follows, and stays
    free.
    """
    dead = dfa.dead
    longest = np.where(next_QV != dead, length_V, 0).max(axis=1).tolist()
    is_open_QB = dfa.table[:dead] != dead
    is_single_Q = (is_open_QB.sum(axis=1) == 1) & ~dfa.is_final[:dead]
    byte_Q = is_open_QB.argmax(axis=1)
    following = dfa.table[np.arange(dead), byte_Q].tolist()
    is_single, bytes_ = is_single_Q.tolist(), byte_Q.tolist()
    for first in range(dead):
        text, state, reach = bytearray(), first, 0
        while is_single[state] and len(text) < MAX_FORCED:
            reach = max(reach, len(text) + longest[state])
            text.append(bytes_[state])
            state = following[state]
        tokens = encode(text.decode(errors="ignore")) if text else []
        # No token reaches over the end of what is forced.
        if len(tokens) > 1 or (tokens and reach <= len(text)):
            behind = next_QV[first, tokens[0]]
            if behind != dead:
                next_QV[first] = dead
                next_QV[first, tokens[0]] = behind


def has_bytes(dfa: ByteDfa, vocabulary: Vocabulary) -> bool:
    """Whether there is a token for each byte that a text may hold."""
    (used,) = np.nonzero((dfa.table[: dfa.dead] != dfa.dead).any(axis=0))
    return all(bytes([byte]) in vocabulary.token_of for byte in used.tolist())


def over_tokens(
    dfa: ByteDfa, vocabulary: Vocabulary, limits: Limits, *, is_cut: bool = True
) -> TokenDfa:
    """The automaton of all texts that one over bytes accepts.

    Args:
        dfa: over bytes.
        vocabulary: its tokens that are text are all used.
        limits: of one constraint.
        is_cut: whether forced texts are cut as the tokenizer would; else in any way.

    Raises:
        TooLargeError: it would be beyond a bound.
        ValueError: no text of tokens matches it.
    """
    dead = dfa.dead
    next_QV = walk_tokens(dfa, vocabulary, limits)
    # Without a token for each byte the tokenizer's own cut may not be one, or may be no way on.
    if is_cut and has_bytes(dfa, vocabulary):
        _as_the_tokenizer_cuts(next_QV, dfa, vocabulary.length_V, vocabulary.encode)
    class_V, sample = _classes(next_QV, dead)
    src, column = np.nonzero(next_QV[:, sample] != dead)
    dst = next_QV[:, sample][src, column].astype(np.int64)
    if len(src) > limits.edges:
        raise TooLargeError(f"{len(src)} edges are too many")
    to_end = distances(src, dst, dfa.is_final[:dead])
    from_start = distances(dst, src, np.arange(dead) == 0)
    is_live = (to_end < FAR) & (from_start < FAR)
    if not is_live[0]:
        raise ValueError("no text of the vocabulary's tokens matches it")
    kept = is_live[src] & is_live[dst]
    number = np.cumsum(is_live) - 1
    return TokenDfa(
        src_E=number[src[kept]].astype(np.int32),
        class_E=(column[kept] + 1).astype(np.int32),
        dst_E=number[dst[kept]].astype(np.int32),
        class_V=class_V.astype(np.int32),
        is_final_N=dfa.is_final[:dead][is_live],
        num_classes=len(sample) + 1,
    )
