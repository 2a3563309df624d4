"""Probabilities within a closed set, and what is said of them.

Confidence is System One's: how concentrated the distribution over the options is. It is not the
probability that the answer is right, which only a comparison with labelled data could say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def restricted(logs: Sequence[float], temperature: float = 1.0) -> list[float]:
    """The softmax over the set of what was read; ``temperature`` divides the logarithms.

    Raises:
        ValueError: nothing of the set can be said at all.
    """
    top = max(logs)
    if math.isinf(top):
        raise ValueError("the model gives no option of the set any probability")
    weights = [math.exp((log - top) / temperature) for log in logs]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def mass(logs: Sequence[float]) -> float:
    """The probability of the set among all that the model could have said."""
    return min(1.0, math.fsum(math.exp(log) for log in logs))


def averaged(rows: Sequence[Sequence[float]]) -> list[float]:
    """The mean over the orders in which the options were shown."""
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def choice_confidence(shares: Sequence[float]) -> float:
    """``(k p_max - 1) / (k - 1)``: 0 where all are alike, 1 where one has everything."""
    num = len(shares)
    return 1.0 if num == 1 else max(0.0, (num * max(shares) - 1) / (num - 1))


def expected(shares: Sequence[float]) -> float:
    """The mean level, from 0 to n - 1."""
    return math.fsum(i * share for i, share in enumerate(shares))


def score_confidence(shares: Sequence[float]) -> float:
    """One less the mean distance from the top level, in units of what equal shares would have."""
    num = len(shares)
    if num == 1:
        return 1.0
    top = max(range(num), key=shares.__getitem__)
    spread = math.fsum(share * abs(i - top) for i, share in enumerate(shares))
    return max(0.0, 1 - spread * num / sum(abs(i - top) for i in range(num)))
