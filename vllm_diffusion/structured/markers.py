"""Ends of tags that may stand in a text only where they end one.

A parser of tool calls cuts a call off at the first end of a tag that it finds, even within a
string of the call's arguments. So a marker may be completed only where the text may end as well.

Shape suffixes: Q states of a byte automaton, M places in a marker.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vllm_diffusion.structured.constraint import TooLargeError
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.regex_dfa import ByteDfa, trimmed
from vllm_diffusion.structured.vocabulary import Vocabulary

Ints = NDArray[np.int64]


@lru_cache(maxsize=64)
def search_table(marker: bytes) -> Ints:
    """(M + 1, 256): how much of the marker has been read behind each byte (Knuth, Morris, Pratt).

    The last row goes on behind a whole marker.
    """
    size = len(marker)
    table = np.zeros((size + 1, 256), dtype=np.int64)
    table[0, marker[0]] = 1
    border = 0
    for at in range(1, size + 1):
        table[at] = table[border]
        if at < size:
            table[at, marker[at]] = at + 1
            border = int(table[border, marker[at]])
    return table


def walk(table: Ints, state: int, text: bytes) -> tuple[int, list[int]]:
    """Where the search stands behind a text; behind how many of its bytes a marker was whole."""
    whole = []
    for at, byte in enumerate(text):
        state = int(table[state, byte])
        if state == len(table) - 1:
            whole.append(at + 1)
    return state, whole


def completing(marker: bytes, state: int, vocabulary: Vocabulary) -> list[int]:
    """Tokens in which a marker becomes whole."""
    table = search_table(marker)
    at_V = np.full(vocabulary.size, state, dtype=np.int64)
    is_whole_V = np.zeros(vocabulary.size, dtype=np.bool_)
    for place, token in enumerate(vocabulary.longer):
        at_V[token] = table[at_V[token], vocabulary.bytes_VB[token, place]]
        is_whole_V[token] |= at_V[token] == len(marker)
    found: list[int] = np.flatnonzero(is_whole_V).tolist()
    return found


def without_inner(dfa: ByteDfa, marker: bytes, limits: Limits) -> ByteDfa | None:
    """The texts of an automaton in which the marker is whole only where a text may end.

    Raises:
        TooLargeError: it would be beyond the bound of states.
    """
    table, whole = search_table(marker), len(marker)
    number, order = {(0, 0): 0}, [(0, 0)]
    rows = []
    for state, place in order:  # grows while it is read
        next_B, place_B = dfa.table[state].astype(np.int64), table[place]
        is_open_B = (next_B != dfa.dead) & ((place_B != whole) | dfa.is_final[next_B])
        pair_B = next_B * (whole + 1) + place_B
        row = np.full(256, -1, dtype=np.int64)
        for pair in np.unique(pair_B[is_open_B]).tolist():
            following = divmod(pair, whole + 1)
            if following not in number:
                if len(order) >= 4 * limits.states:
                    raise TooLargeError("too many states with the ends of tags")
                number[following] = len(order)
                order.append(following)
            row[is_open_B & (pair_B == pair)] = number[following]
        rows.append(row)
    new = np.stack([*rows, np.full(256, -1)])
    new[new < 0] = len(order)
    found = trimmed(new, np.array([*(dfa.is_final[state] for state, _ in order), False]))
    if found is not None and found.dead > limits.states:
        raise TooLargeError(f"more than {limits.states} states with the ends of tags")
    return found
