"""Which masked positions take their candidate in a step.

Shape suffixes: B requests in the step, L canvas length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_diffusion.denoise.policies import POLICIES, POLICY_INDEX, Policy, StepView
from vllm_diffusion.denoise.schedule import even_floor, time_floor


def first_sub_block(open_BL: Tensor, offset_B: Tensor, sub_block_B: Tensor) -> Tensor:
    """Keep the positions of ``open_BL`` that are in the leftmost sub-block with any.

    Fast-dLLM v2 (arXiv 2509.26328) denoises a block of 32 in pieces of 8.

    Args:
        open_BL: bool (B, L), masked positions.
        offset_B: int64 (B,), pinned positions of the block in front of the canvas.
        sub_block_B: int64 (B,), length of a sub-block, counted from the block's start.
    """
    length = open_BL.shape[1]
    position_BL = offset_B[:, None] + torch.arange(length, device=open_BL.device)
    piece_BL = position_BL // sub_block_B[:, None]
    first_B1 = torch.where(open_BL, piece_BL, 2 * length).amin(dim=-1, keepdim=True)
    return open_BL & (piece_BL == first_B1)


def _floor(
    policy: Policy,
    view: StepView,
    step_B: Tensor,
    block_length_B: Tensor,
    max_steps_B: Tensor,
    width_B: Tensor,
) -> tuple[Tensor, Tensor]:
    """Positions (B,) that the policy's schedule demands, and the step (B,) that this is in it."""
    if policy.schedule == "even":
        return even_floor(step_B, block_length_B, max_steps_B), step_B
    num_masked_B = view.masked_BL.sum(dim=-1)
    num_steps_B = torch.minimum(max_steps_B, width_B)
    if policy.schedule == "time":
        return time_floor(step_B, num_masked_B, num_steps_B)
    return torch.where(step_B >= num_steps_B - 1, num_masked_B, 0), step_B


def accepted_positions(
    view: StepView,
    step_B: Tensor,
    *,
    policies: tuple[str, ...],
    policy_B: Tensor,
    block_length_B: Tensor,
    max_steps_B: Tensor,
    width_B: Tensor,
) -> tuple[Tensor, Tensor]:
    """The union of what each request's policy accepts and its schedule's floor of the best.

    Equal scores go to the leftmost position.

    Returns:
        bool (B, L) and int64 (B,), the step of the schedule that this was.
    """
    chosen: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
    for name in policies:
        policy = POLICIES[name]
        score_BL = policy.score(view)
        of_policy = (
            score_BL,
            policy.accept(view, score_BL),
            *_floor(policy, view, step_B, block_length_B, max_steps_B, width_B),
        )
        if chosen is None:
            chosen = of_policy
            continue
        is_its_B = policy_B == POLICY_INDEX[name]
        is_its_B1 = is_its_B[:, None]
        chosen = (
            torch.where(is_its_B1, of_policy[0], chosen[0]),
            torch.where(is_its_B1, of_policy[1], chosen[1]),
            torch.where(is_its_B, of_policy[2], chosen[2]),
            torch.where(is_its_B, of_policy[3], chosen[3]),
        )
    assert chosen is not None
    score_BL, accept_BL, floor_B, step_B = chosen
    ranked_BL = torch.where(view.masked_BL, score_BL, -torch.inf)
    order_BL = ranked_BL.argsort(dim=-1, descending=True, stable=True)
    rank_L = torch.arange(order_BL.shape[1], device=order_BL.device)
    in_floor_BL = rank_L < floor_B[:, None]
    floor_BL = torch.zeros_like(view.masked_BL).scatter(-1, order_BL, in_floor_BL)
    return (accept_BL | floor_BL) & view.masked_BL, step_B
