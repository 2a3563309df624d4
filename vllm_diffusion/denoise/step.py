"""One denoising step for a batch of canvases. START HERE.

    candidates and confidences -> policy -> canvas update -> who has converged

Shape suffixes: B requests in the step, L canvas length, E stop ids a request.

What every policy is held to stands in ``accept`` and ``converge``, not in the
policies: settled positions change only by an edit, each unfinished canvas
accepts at least one position (so a block of L positions takes at most L steps;
``origin`` alone may accept none, its clock ends it), and a block ends when no
masked position is left in front of its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vllm_diffusion.denoise.accept import accepted_positions
from vllm_diffusion.denoise.converge import num_settled
from vllm_diffusion.denoise.policies import StepView
from vllm_diffusion.denoise.sample import Candidates


@dataclass(frozen=True, slots=True)
class StepParams:
    """What every request of the step has; what only some ask for is a ``StepRule``."""

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
class Changes:
    """What a step does to the canvases."""

    tokens_BL: Tensor
    """int64, before it."""
    exists_BL: Tensor
    """bool, canvas positions that there are."""
    masked_BL: Tensor
    """bool, those of them that held no accepted token."""
    open_BL: Tensor
    """bool, those of them that the policy chooses from."""
    candidates: Candidates
    accepted_BL: Tensor
    """bool, masked positions that take their candidate."""
    edited_BL: Tensor | None = None
    """bool, settled ones that do, where anybody edits."""

    @property
    def settled_BL(self) -> Tensor:
        """bool, positions that held an accepted token."""
        return self.exists_BL & ~self.masked_BL


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


class StepRule:
    """What some requests of a step ask for beside their policy; a method a place in the step.

    The others' rows stay as they are. A rule overrides what it needs.
    """

    def open(self, open_BL: Tensor, params: StepParams) -> Tensor:
        """The masked positions that the policy chooses from."""
        return open_BL

    def see(self, view: StepView, step_B: Tensor, params: StepParams) -> StepView:
        """What the policy sees."""
        return view

    def change(self, changes: Changes) -> Changes:
        """What the step accepts and edits, once the policy has chosen."""
        return changes

    def revise(self, tokens_BL: Tensor, masked_BL: Tensor) -> tuple[Tensor, Tensor]:
        """The canvases, once what is accepted stands in them."""
        return tokens_BL, masked_BL

    def emit(self, result: StepResult, changes: Changes, params: StepParams) -> StepResult:
        """How many tokens are settled for good."""
        return result


def denoise(
    tokens_BL: Tensor,
    masked_BL: Tensor,
    step_B: Tensor,
    candidates: Candidates,
    params: StepParams,
    rules: Sequence[StepRule] = (),
) -> StepResult:
    """Run one denoising step.

    Args:
        tokens_BL: int64 (B, L), the canvases that the model has just read.
        masked_BL: bool (B, L), their masked positions.
        step_B: int64 (B,), steps that each block has had before this one.
        candidates: the model's answer at each position.
        params: what each request asked for.
        rules: what some of them ask for beside it, in the order in which it is done.
    """
    position_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
    exists_BL = position_L < params.width_B[:, None]
    masked_BL = masked_BL & exists_BL
    open_BL = masked_BL
    for rule in rules:
        open_BL = rule.open(open_BL, params)
    view = StepView(
        masked_BL=open_BL,
        prob_BL=candidates.prob_BL,
        second_BL=candidates.second_BL,
        entropy_BL=candidates.entropy_BL,
        threshold_B=params.threshold_B,
    )
    for rule in rules:
        view = rule.see(view, step_B, params)
    accepted_BL, step_B = accepted_positions(
        view,
        step_B,
        policies=params.policies,
        policy_B=params.policy_B,
        block_length_B=params.block_length_B,
        max_steps_B=params.max_steps_B,
        width_B=params.width_B,
    )
    changes = Changes(tokens_BL, exists_BL, masked_BL, open_BL, candidates, accepted_BL)
    for rule in rules:
        changes = rule.change(changes)
    left_BL = masked_BL & ~changes.accepted_BL
    new_BL = torch.where(changes.accepted_BL, candidates.token_BL, tokens_BL)
    for rule in rules:
        new_BL, left_BL = rule.revise(new_BL, left_BL)
    if changes.edited_BL is not None:
        new_BL = torch.where(changes.edited_BL, candidates.token_BL, new_BL)
    end_B = torch.minimum(params.width_B, params.limit_B)
    num_emitted_B = num_settled(new_BL, left_BL, end_B, params.stop_ids_BE)
    result = StepResult(new_BL, left_BL, num_emitted_B, step_B + 1)
    for rule in rules:
        result = rule.emit(result, changes, params)
    return result
