"""Tokens that stand in a canvas before it is denoised: what is held, and drafts.

    keep = {i drafted : p_i(x_i) >= tau},  else x_i is masked again

A held token is settled from the start and never edited. A draft is read in the first forward of its
block that has a row for it, and is settled or masked then; the policy goes on with what is masked.
Shape suffixes: B requests in the step, L canvas length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from vllm_diffusion.denoise.sample import Candidates
from vllm_diffusion.denoise.step import Changes, StepParams, StepResult, StepRule

HELD = 1 << 32
"""Is added to the tokens of a seed that are held; a hole is negative."""


class Canvases(NamedTuple):
    """Fresh ones."""

    tokens_BL: Tensor
    """int64. What the model reads."""
    draft_BL: Tensor
    """bool."""
    pinned_BL: Tensor
    """bool. Settled; all others are masked."""


def lay(seed_BL: Tensor, width_B: Tensor, mask_id: int, *, has_seed: bool) -> Canvases:
    """Canvases that start as the seeds say.

    Args:
        seed_BL: int64 (B, L), a token, ``HELD`` more, or negative.
        width_B: int64 (B,), positions of the canvas; behind them only what is held is shown.
        mask_id: the mask token.
        has_seed: the first token is the autoregressive one, so no draft of it is read.
    """
    position_L = torch.arange(seed_BL.shape[1], device=seed_BL.device)
    pinned_BL = seed_BL >= HELD
    draft_BL = (seed_BL >= 0) & ~pinned_BL & (position_L < width_B[:, None])
    if has_seed:
        draft_BL[:, 0] = False
    tokens_BL = torch.where(pinned_BL, seed_BL - HELD, seed_BL)
    return Canvases(torch.where(pinned_BL | draft_BL, tokens_BL, mask_id), draft_BL, pinned_BL)


def own_prob(logits_NV: Tensor, row_BL: Tensor, tokens_BL: Tensor, answer: Candidates) -> Tensor:
    """float32 (B, L): how probable the canvases' own tokens are, by way of the candidates.

    Args:
        logits_NV: of the step.
        row_BL: int64 (B, L), the row of each position.
        tokens_BL: int64 (B, L), what the canvases hold.
        answer: read off the same logits.
    """
    own_BL = logits_NV[row_BL, tokens_BL].float()
    candidate_BL = logits_NV[row_BL, answer.token_BL].float()
    return answer.prob_BL * (own_BL - candidate_BL).exp()


@dataclass(frozen=True)
class Laid(StepRule):
    """Of the requests of a step, some of which have laid something."""

    draft_BL: Tensor
    """bool. Drafts that have not been read."""
    pinned_BL: Tensor
    """bool."""
    is_laid_B: Tensor
    """bool."""
    prob_BL: Tensor
    """float32. Of the tokens that the canvases hold."""
    threshold_B: Tensor
    """float32."""
    num_rows_B: Tensor
    """int64. Leading canvas positions that have logits."""
    step_B: Tensor
    """int64. Steps of the schedule before this one."""
    mask_id: int
    follows_B: Tensor | None = None
    """bool. Requests whose draft follows their text; None where there are none."""

    @property
    def read_BL(self) -> Tensor:
        """bool. Drafts that this step reads."""
        position_L = torch.arange(self.draft_BL.shape[1], device=self.draft_BL.device)
        return self.draft_BL & (position_L < self.num_rows_B[:, None])

    @property
    def sure_BL(self) -> Tensor:
        """bool. Drafts that this step keeps; what a request forbids has no probability."""
        is_sure_BL = (self.prob_BL >= self.threshold_B[:, None]) & (self.prob_BL > 0)
        return self.read_BL & is_sure_BL

    def open(self, open_BL: Tensor, params: StepParams) -> Tensor:
        return open_BL & ~self.draft_BL

    def change(self, changes: Changes) -> Changes:
        if changes.edited_BL is None:
            return changes
        return replace(changes, edited_BL=changes.edited_BL & ~self.pinned_BL)

    def revise(self, tokens_BL: Tensor, masked_BL: Tensor) -> tuple[Tensor, Tensor]:
        sure_BL = self.sure_BL
        doubted_BL = self.read_BL & ~sure_BL
        return tokens_BL.masked_fill(doubted_BL, self.mask_id), masked_BL & ~sure_BL

    def emit(self, result: StepResult, changes: Changes, params: StepParams) -> StepResult:
        # A forward that made the first token alone says nothing of what is held behind it.
        is_unread_B = self.is_laid_B & (result.num_emitted_B > self.num_rows_B)
        # The policy's clock stands still where there was nothing for it to choose from.
        is_idle_B = self.read_BL.any(dim=-1) & ~changes.open_BL.any(dim=-1)
        return replace(
            result,
            num_emitted_B=result.num_emitted_B.masked_fill(is_unread_B, 0),
            step_B=torch.where(is_idle_B, self.step_B, result.step_B),
        )
