"""Options of several tokens, read by the chain rule from left to right.

``P(o) = prod_k P(t_k | t_1..t_{k-1} shown, the rest masked)``. Which tokens are shown is known
before anything is read, so that all reads go at once: one for each inner node of the options' trie.
Every option ends with the same token. Without it, one that begins another would take its
probability.

No probability is a product of marginals, that is of ``P(t_k | all masked)``: such a product
sharpens what several tokens say together, and is the probability of nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Tokens = tuple[int, ...]


MOST_TOKENS = 128
"""That one read may ask for; vLLM's bound."""


class Node(NamedTuple):
    """One read: what is shown, and which tokens are asked for behind it."""

    shown: Tokens
    nexts: Tokens


def with_end(options: Sequence[Sequence[int]], end: int) -> list[Tokens]:
    """The options' tokens with their terminator, or as they are where each is one token."""
    if all(len(option) == 1 for option in options):
        return [tuple(option) for option in options]
    return [(*option, end) for option in options]


def nodes_of(options: Sequence[Tokens]) -> list[Node]:
    """The inner nodes, the root first; one of many next tokens comes several times.

    Raises:
        ValueError: with the numbers of two options that are the same, or where one begins another.
    """
    nexts: dict[Tokens, dict[int, None]] = {}
    places: dict[Tokens, int] = {}
    for number, option in enumerate(options):
        if option in places:
            raise ValueError(places[option], number)
        places[option] = number
        for length, token in enumerate(option):
            nexts.setdefault(option[:length], {})[token] = None
    for option, number in places.items():
        if option in nexts:
            longer = next(
                n for o, n in places.items() if o[: len(option)] == option and o != option
            )
            raise ValueError(number, longer)
    return [
        Node(shown, tuple(tokens)[first : first + MOST_TOKENS])
        for shown, tokens in nexts.items()
        for first in range(0, len(tokens), MOST_TOKENS)
    ]


def log_probabilities(
    options: Sequence[Tokens], scores: Mapping[Tokens, Mapping[int, float]]
) -> list[float]:
    """The model's own log-probability of each option, from those of each node's next tokens."""
    return [
        math.fsum(scores[option[:length]][token] for length, token in enumerate(option))
        for option in options
    ]


def argmax_is_option(options: Sequence[Tokens], firsts: Mapping[Tokens, int]) -> bool:
    """Does the model, always at its most probable token, come to the end of an option?"""
    ends = set(options)
    shown: Tokens = ()
    while shown in firsts:
        shown = (*shown, firsts[shown])
    return shown in ends
