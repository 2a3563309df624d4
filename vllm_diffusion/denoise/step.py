"""One denoising step for a batch of canvases. START HERE.

    candidates and confidences -> policy -> canvas update -> who has converged

Shape suffixes: B requests in the step, L canvas length, E stop ids a request.

What every policy is held to stands in ``accept`` and ``settle``, not in the
policies: settled positions change only by an edit, each unfinished canvas
accepts at least one position (so a block of L positions takes at most L steps;
``origin`` alone may accept none, its clock ends it), and a block ends when no
masked position is left in front of its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vllm_diffusion.denoise.accept import accepted_positions, first_sub_block
from vllm_diffusion.denoise.bad_words import BadWords, take_back
from vllm_diffusion.denoise.edit import EditParams, edited_positions, num_stable
from vllm_diffusion.denoise.policies import StepView
from vllm_diffusion.denoise.sample import Candidates
from vllm_diffusion.denoise.schedule import transfer_share
from vllm_diffusion.denoise.settle import num_settled


@dataclass(frozen=True, slots=True)
class StepParams:
    """What the requests of the step asked for. The optional ones are None if nobody did."""

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
    num_rows_B: Tensor | None = None
    """int64. Leading canvas positions that may be accepted in this step, where not all may."""
    sub_block_B: Tensor | None = None
    """int64. Length of the pieces in which a block is denoised."""
    edits: EditParams | None = None
    uniform_BL: Tensor | None = None
    """float32 in (0, 1). Draws for the policy ``origin``."""
    revise: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    """Tokens (B, L) and mask (B, L) after acceptance to what a constraint makes of them."""
    bad_words: BadWords | None = None
    """Words of several tokens that the output must not hold."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The canvases after the step."""

    tokens_BL: Tensor
    """int64."""
    masked_BL: Tensor
    """bool."""
    num_emitted_B: Tensor
    """int64. Tokens that the step settled for good: 0 until the block has converged."""
    step_B: Tensor
    """int64. Steps of the schedule that the block has had, this one included."""
    post_step_B: Tensor | None = None
    """int64. Forwards that began without masks, where anybody edits."""


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
    position_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
    exists_BL = position_L < params.width_B[:, None]
    masked_BL = masked_BL & exists_BL
    open_BL = masked_BL
    if params.num_rows_B is not None:
        open_BL = open_BL & (position_L < params.num_rows_B[:, None])
    if params.sub_block_B is not None:
        offset_B = params.block_length_B - params.width_B
        open_BL = first_sub_block(open_BL, offset_B, params.sub_block_B)
    share_B = None
    if params.uniform_BL is not None:
        num_steps_B = torch.minimum(params.max_steps_B, params.width_B)
        share_B = transfer_share(step_B, num_steps_B)
    view = StepView(
        masked_BL=open_BL,
        prob_BL=candidates.prob_BL,
        second_BL=candidates.second_BL,
        entropy_BL=candidates.entropy_BL,
        threshold_B=params.threshold_B,
        share_B=share_B,
        uniform_BL=params.uniform_BL,
    )
    accepted_BL, step_B = accepted_positions(
        view,
        step_B,
        policies=params.policies,
        policy_B=params.policy_B,
        block_length_B=params.block_length_B,
        max_steps_B=params.max_steps_B,
        width_B=params.width_B,
    )
    if params.num_rows_B is not None:
        # A seed is the causal mode's token: taken, whatever the policy thinks of it.
        is_seed_B1 = (params.num_rows_B < params.width_B)[:, None]
        accepted_BL = accepted_BL | (open_BL & is_seed_B1)
    edited_BL = None
    if params.edits is not None:
        edited_BL = edited_positions(
            tokens_BL, exists_BL & ~masked_BL, candidates.token_BL, candidates.prob_BL, params.edits
        )
    if params.bad_words is not None:
        accepted_BL, edited_BL = take_back(
            params.bad_words,
            tokens_BL,
            exists_BL & ~masked_BL,
            candidates.token_BL,
            candidates.prob_BL,
            accepted_BL,
            edited_BL,
        )
    left_BL = masked_BL & ~accepted_BL
    new_BL = torch.where(accepted_BL, candidates.token_BL, tokens_BL)
    if params.revise is not None:
        new_BL, left_BL = params.revise(new_BL, left_BL)
    end_B = torch.minimum(params.width_B, params.limit_B)
    if params.edits is None or edited_BL is None:
        num_emitted_B = num_settled(new_BL, left_BL, end_B, params.stop_ids_BE)
        return StepResult(new_BL, left_BL, num_emitted_B, step_B + 1)

    new_BL = torch.where(edited_BL, candidates.token_BL, new_BL)
    num_settled_B = num_settled(new_BL, left_BL, end_B, params.stop_ids_BE)
    num_stable_B, post_step_B = num_stable(
        new_BL,
        masked_BL.any(dim=-1),
        left_BL.any(dim=-1),
        edited_BL.any(dim=-1),
        params.width_B,
        params.limit_B,
        params.stop_ids_BE,
        params.edits,
    )
    edits_B = params.edits.threshold_B.isfinite()
    num_emitted_B = torch.where(edits_B, num_stable_B, num_settled_B)
    return StepResult(new_BL, left_BL, num_emitted_B, step_B + 1, post_step_B)
