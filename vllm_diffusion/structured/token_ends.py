"""Which states of a byte automaton tokens can end a text from, where bytes alone cannot.

A vocabulary without a token for each byte, such as SentencePiece's without byte fallback, has no
way to write some texts that the automaton allows. Found once, where the constraint is compiled.

Shape suffixes: Q states, V vocabulary, E edges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vllm_diffusion.structured.regex_dfa import ByteDfa
from vllm_diffusion.structured.token_dfa import distances, has_bytes
from vllm_diffusion.structured.vocabulary import Vocabulary


def states_behind(dfa: ByteDfa, vocabulary: Vocabulary, state: int) -> NDArray[np.int32]:
    """(V,): the state behind each token; dead for those that are no text."""
    table = dfa.table
    state_V = np.full(vocabulary.size, dfa.dead, dtype=np.int32)
    token = vocabulary.longer[0]
    at = 0
    reached = table[state, vocabulary.bytes_VB[token, 0]]
    while True:
        state_V[token] = reached
        at += 1
        goes_on = (reached != dfa.dead) & (vocabulary.length_V[token] > at)
        token = token[goes_on]
        if not len(token):
            return state_V
        reached = table[reached[goes_on], vocabulary.bytes_VB[token, at]]


def tokens_to_end(dfa: ByteDfa, vocabulary: Vocabulary) -> NDArray[np.int64] | None:
    """(Q + 1,): fewest tokens from each state to a final one, ``FAR`` where there is no way.

    None where each byte is a token, so that the automaton itself tells.
    """
    if has_bytes(dfa, vocabulary):
        return None
    sources: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    seen, left = {0}, [0]
    while left:
        state = left.pop()
        behind = np.unique(states_behind(dfa, vocabulary, state)).astype(np.int64)
        behind = behind[behind != dfa.dead]
        sources.append(np.full(len(behind), state, dtype=np.int64))
        targets.append(behind)
        new = set(behind.tolist()) - seen
        seen |= new
        left += new
    to_end: NDArray[np.int64] = distances(
        np.concatenate(sources), np.concatenate(targets), dfa.is_final
    )
    return to_end
