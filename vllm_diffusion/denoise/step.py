"""One denoising step for a batch of canvases. START HERE.

    candidates and confidences -> policy -> canvas update -> who has converged

Shape suffixes: B requests in the step, L canvas length, E stop ids a request.

What every policy is held to stands here, not in the policies: settled
positions never change, each unfinished canvas accepts at least one position
(so a block of L positions takes at most L steps), and a block ends when no
masked position is left in front of its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vllm_diffusion.denoise.policies import POLICIES, POLICY_INDEX, StepView
from vllm_diffusion.denoise.sample import Candidates


@dataclass(frozen=True, slots=True)
class StepParams:
    """What the requests of the step asked for."""

    policies: tuple[str, ...]
    """The names in use in this batch, known to the host."""
    policy_B: Tensor
    """int64. ``POLICY_INDEX`` of each request's policy."""
    threshold_B: Tensor
    """float32."""
    max_steps_B: Tensor
    """int64. Steps that the schedule spreads a block over."""
    block_length_B: Tensor
    """int64."""
    width_B: Tensor
    """int64. Canvas positions that exist; the first block's is shorter by the prompt's tail."""
    limit_B: Tensor
    """int64. Tokens the request may still emit (``max_tokens``, ``max_model_len``)."""
    stop_ids_BE: Tensor
    """int64. Token ids that end the request, padded with -1."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The canvases after the step."""

    tokens_BL: Tensor
    """int64."""
    masked_BL: Tensor
    """bool."""
    num_emitted_B: Tensor
    """int64. Tokens that the step settled for good: 0 until the block has converged."""


def min_accepted(step_B: Tensor, params: StepParams) -> Tensor:
    """Positions that the schedule demands of a step, at least 1.

    ``B // S`` and one more in the first ``B mod S`` steps, as in SDAR's and
    LLaDA's ``get_num_transfer_tokens``; so a block of B takes at most S steps.
    """
    quotient_B = params.block_length_B // params.max_steps_B
    remainder_B = params.block_length_B % params.max_steps_B
    return (quotient_B + (step_B < remainder_B)).clamp_(min=1)


def accepted_positions(view: StepView, step_B: Tensor, params: StepParams) -> Tensor:
    """Which masked positions (B, L) take their candidate in this step.

    The union of what the request's policy accepts and the schedule's floor of
    best-scored positions; equal scores go to the leftmost position.
    """
    score_BL = accept_BL = None
    for name in params.policies:
        policy = POLICIES[name]
        policy_score_BL = policy.score(view)
        policy_accept_BL = policy.accept(view, policy_score_BL)
        if score_BL is None or accept_BL is None:
            score_BL, accept_BL = policy_score_BL, policy_accept_BL
        else:
            chosen_B1 = (params.policy_B == POLICY_INDEX[name])[:, None]
            score_BL = torch.where(chosen_B1, policy_score_BL, score_BL)
            accept_BL = torch.where(chosen_B1, policy_accept_BL, accept_BL)
    assert score_BL is not None and accept_BL is not None
    ranked_BL = torch.where(view.masked_BL, score_BL, -torch.inf)
    order_BL = ranked_BL.argsort(dim=-1, descending=True, stable=True)
    rank_BL = torch.arange(order_BL.shape[1], device=order_BL.device)
    in_floor_BL = rank_BL < min_accepted(step_B, params)[:, None]
    floor_BL = torch.zeros_like(view.masked_BL).scatter(-1, order_BL, in_floor_BL)
    return (accept_BL | floor_BL) & view.masked_BL


def num_settled(tokens_BL: Tensor, masked_BL: Tensor, params: StepParams) -> Tensor:
    """Tokens (B,) to emit now: 0 for a block that has not converged.

    A block has converged when no masked position is left before its end, and
    its end is the first of: the canvas's width, the tokens that the request may
    still emit, an accepted stop token (inclusive). What lies behind the end is
    never shown, so it need not be denoised.
    """
    length = tokens_BL.shape[1]
    position_L = torch.arange(length, device=tokens_BL.device)
    end_B = torch.minimum(params.width_B, params.limit_B)
    open_BL = masked_BL & (position_L < end_B[:, None])
    first_open_B = torch.where(open_BL, position_L, length).amin(dim=-1)
    is_stop_BL = (tokens_BL[:, :, None] == params.stop_ids_BE[:, None, :]).any(dim=-1)
    is_stop_BL &= ~masked_BL & (position_L < end_B[:, None])
    first_stop_B = torch.where(is_stop_BL, position_L, length).amin(dim=-1)
    converged_B = (first_open_B == length) | (first_stop_B < first_open_B)
    return torch.where(converged_B, torch.minimum(end_B, first_stop_B + 1), 0)


def denoise(
    tokens_BL: Tensor,
    masked_BL: Tensor,
    step_B: Tensor,
    candidates: Candidates,
    params: StepParams,
) -> StepResult:
    """Run one denoising step.

    Args:
        tokens_BL: int64 (B, L), the canvases that the model has just read.
        masked_BL: bool (B, L), their masked positions.
        step_B: int64 (B,), steps that each block has had before this one.
        candidates: the model's answer at each position.
        params: what each request asked for.
    """
    length = tokens_BL.shape[1]
    exists_BL = torch.arange(length, device=tokens_BL.device) < params.width_B[:, None]
    view = StepView(
        masked_BL=masked_BL & exists_BL,
        prob_BL=candidates.prob_BL,
        second_BL=candidates.second_BL,
        entropy_BL=candidates.entropy_BL,
        threshold_B=params.threshold_B,
    )
    accepted_BL = accepted_positions(view, step_B, params)
    tokens_BL = torch.where(accepted_BL, candidates.token_BL, tokens_BL)
    masked_BL = view.masked_BL & ~accepted_BL
    return StepResult(
        tokens_BL=tokens_BL,
        masked_BL=masked_BL,
        num_emitted_B=num_settled(tokens_BL, masked_BL, params),
    )
