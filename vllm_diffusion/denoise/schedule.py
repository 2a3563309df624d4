"""How many positions a step accepts at least, and at which step of a schedule it is.

Shape suffixes: B requests in the step.
"""

from __future__ import annotations

import torch
from torch import Tensor

TIME_END = 1e-3
"""Where Dream's time runs to; it starts at 1."""


def even_floor(step_B: Tensor, block_length_B: Tensor, max_steps_B: Tensor) -> Tensor:
    """Positions that an even schedule demands of a step, at least 1.

    ``B // S`` and one more in the first ``B mod S`` steps, as in SDAR's and
    LLaDA's ``get_num_transfer_tokens``; so a block of B takes at most S steps.
    """
    quotient_B = block_length_B // max_steps_B
    remainder_B = block_length_B % max_steps_B
    return (quotient_B + (step_B < remainder_B)).clamp_(min=1)


def transfer_share(step_B: Tensor, num_steps_B: Tensor) -> Tensor:
    """Share of the masked positions that Dream's time schedule fills in a step, float64 (B,).

    ``1 - t[i + 1] / t[i]`` with ``t = linspace(1, TIME_END, S + 1)``; 1 in the
    last step (HKUNLP/Dream, ``diffusion_generate``).
    """
    delta_B = (1 - TIME_END) / num_steps_B.double()
    share_B = delta_B / (1 - step_B * delta_B)
    return torch.where(step_B >= num_steps_B - 1, 1.0, share_B)


def time_floor(step_B: Tensor, num_masked_B: Tensor, num_steps_B: Tensor) -> tuple[Tensor, Tensor]:
    """The next step of Dream's schedule that fills anything, and how many it fills.

    Dream fills ``int(num_masked * transfer_share)`` positions in a step, which
    may be none. Such a step changes nothing, so the model would say the same
    again: it is skipped, and the tokens are those of the schedule in full.

    Args:
        step_B: int64 (B,), steps that the block has had.
        num_masked_B: int64 (B,), positions that are still masked.
        num_steps_B: int64 (B,), S, at least 1.

    Returns:
        int64 (B,) positions to fill, at least 1 where any are masked, and
        int64 (B,) the step of the schedule that this is.
    """
    steps_B = num_steps_B.double()
    # n * delta >= 1 - i * delta, solved for i
    first_B = (steps_B / (1 - TIME_END) - num_masked_B).ceil().long()
    step_B = torch.minimum(torch.maximum(step_B, first_B), num_steps_B - 1)
    filled_B = num_masked_B * transfer_share(step_B, num_steps_B)
    # The step that was chosen fills one at least; a product may be rounded to below it.
    return torch.minimum(filled_B.long().clamp(min=1), num_masked_B), step_B
