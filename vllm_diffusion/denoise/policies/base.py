"""What a policy sees and what it answers.

Shape suffixes: B requests in the step, L canvas length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Schedule = Literal["even", "time", "chance"]
"""Where a step's floor comes from.

* ``even``: the same number in each of the block's steps (``even_floor``).
* ``time``: a share that grows as time runs out (``time_floor``).
* ``chance``: none before the last step, which takes all that are left.
"""


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
    share_B: Tensor | None = None
    """float64. ``transfer_share`` of the step; for the schedule ``chance``."""
    uniform_BL: Tensor | None = None
    """float32 in (0, 1). Draws of the request's own; for the schedule ``chance``."""


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
    schedule: Schedule = "even"
