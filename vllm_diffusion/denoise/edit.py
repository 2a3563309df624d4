"""Token-to-token edits: the model corrects accepted tokens of the block it is working on.

    edit = {i accepted : v_i != x_i and p_i(v_i) > tau_e},  v_i = argmax p_i

LLaDA2.1's joint decoding (arXiv 2602.08676): in every forward masked positions
are filled by the policy and accepted ones are edited. The block is finished
when a forward that began without masks edits nothing, or when ``max_post_steps``
such forwards have been made. Until then any token of it may change, so none is
emitted, and an end of sequence in it counts only in the finished block.

Shape suffixes: B requests in the step, L canvas length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vllm_diffusion.denoise.converge import first_stop
from vllm_diffusion.denoise.step import Changes, StepParams, StepResult, StepRule


@dataclass(frozen=True)
class EditParams(StepRule):
    """Of the requests of a step, some of which edit."""

    threshold_B: Tensor
    """float32. Infinite where the request does not edit."""
    max_post_steps_B: Tensor
    """int64. Most forwards of a block that begin without masks."""
    post_step_B: Tensor
    """int64. Such forwards that the block has had."""

    def change(self, changes: Changes) -> Changes:
        edited_BL = edited_positions(
            changes.tokens_BL,
            changes.settled_BL,
            changes.candidates.token_BL,
            changes.candidates.prob_BL,
            self,
        )
        return replace(changes, edited_BL=edited_BL)

    def emit(self, result: StepResult, changes: Changes, params: StepParams) -> StepResult:
        assert changes.edited_BL is not None
        num_stable_B, post_step_B = num_stable(
            result.tokens_BL,
            changes.masked_BL.any(dim=-1),
            result.masked_BL.any(dim=-1),
            changes.edited_BL.any(dim=-1),
            params.width_B,
            params.limit_B,
            params.stop_ids_BE,
            self,
        )
        edits_B = self.threshold_B.isfinite()
        num_emitted_B = torch.where(edits_B, num_stable_B, result.num_emitted_B)
        return replace(result, num_emitted_B=num_emitted_B, post_step_B=post_step_B)


def edited_positions(
    tokens_BL: Tensor,
    accepted_BL: Tensor,
    candidate_BL: Tensor,
    prob_BL: Tensor,
    edits: EditParams,
) -> Tensor:
    """bool (B, L): accepted positions whose candidate replaces their token.

    Args:
        tokens_BL: int64 (B, L), the canvases that the model has just read.
        accepted_BL: bool (B, L), positions that held an accepted token then.
        candidate_BL: int64 (B, L).
        prob_BL: float32 (B, L), of the candidate.
        edits: what each request asked for.
    """
    is_other_BL = candidate_BL != tokens_BL
    return accepted_BL & is_other_BL & (prob_BL > edits.threshold_B[:, None])


def num_stable(
    tokens_BL: Tensor,
    was_masked_B: Tensor,
    is_masked_B: Tensor,
    was_edited_B: Tensor,
    width_B: Tensor,
    limit_B: Tensor,
    stop_ids_BE: Tensor,
    edits: EditParams,
) -> tuple[Tensor, Tensor]:
    """Tokens (B,) to emit now of blocks that are edited, and their ``post_step_B`` after the step.

    Args:
        tokens_BL: int64 (B, L), after the step.
        was_masked_B: bool (B,), masks were left before the step.
        is_masked_B: bool (B,), masks are left after it.
        was_edited_B: bool (B,), the step edited something.
        width_B: int64 (B,), canvas positions that exist; all of them must be stable.
        limit_B: int64 (B,), tokens the request may still emit.
        stop_ids_BE: int64 (B, E), padded with -1.
        edits: what each request asked for.
    """
    post_step_B = edits.post_step_B + ~was_masked_B
    is_stable_B = ~was_masked_B & ~was_edited_B
    is_spent_B = ~is_masked_B & (post_step_B >= edits.max_post_steps_B)
    end_B = torch.minimum(width_B, limit_B)
    position_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
    first_stop_B = first_stop(tokens_BL, position_L < end_B[:, None], stop_ids_BE)
    num_B = torch.where(is_stable_B | is_spent_B, torch.minimum(end_B, first_stop_B + 1), 0)
    return num_B, post_step_B
