"""What a policy sees and what it answers.

Shape suffixes: B requests in the step, L canvas length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class StepView:
    """The model's opinion of each canvas position in one denoising step."""

    masked_BL: Tensor
    """bool. Positions that may be accepted now."""
    prob_BL: Tensor
    """float32. Probability of the candidate token."""
    second_BL: Tensor
    """float32. Probability of the runner-up."""
    entropy_BL: Tensor
    """float32. Entropy of the distribution in nats."""
    threshold_B: Tensor
    """float32. The request's bound."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One rule for which masked positions take their candidate.

    ``score`` ranks positions (higher is accepted earlier); the step accepts at
    least as many of the best as its schedule demands. ``accept`` marks the
    positions that the rule takes beyond that, given those scores.
    """

    name: str
    score: Callable[[StepView], Tensor]
    accept: Callable[[StepView, Tensor], Tensor]
    threshold_range: tuple[float, float]
    default_threshold: float
