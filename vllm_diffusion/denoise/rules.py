"""Rules of a step that say what may be accepted in it: seeds, sub-blocks, draws of the policy.

``edit`` and ``sampling.bad_words`` have theirs. Shape suffixes: B requests in the step, L canvas
length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vllm_diffusion.denoise.accept import first_sub_block
from vllm_diffusion.denoise.policies import StepView
from vllm_diffusion.denoise.schedule import transfer_share
from vllm_diffusion.denoise.step import Changes, StepParams, StepRule


@dataclass(frozen=True)
class Seeds(StepRule):
    """Not all positions have a row of logits: a step may make the seed alone."""

    num_rows_B: Tensor
    """int64. Leading canvas positions that may be accepted."""
    width_B: Tensor
    """int64. Of the canvas."""

    def open(self, open_BL: Tensor, params: StepParams) -> Tensor:
        position_L = torch.arange(open_BL.shape[1], device=open_BL.device)
        return open_BL & (position_L < self.num_rows_B[:, None])

    def change(self, changes: Changes) -> Changes:
        """A seed is the causal mode's token: taken, whatever the policy thinks of it."""
        is_seed_B1 = (self.num_rows_B < self.width_B)[:, None]
        return replace(changes, accepted_BL=changes.accepted_BL | (changes.open_BL & is_seed_B1))


@dataclass(frozen=True)
class SubBlocks(StepRule):
    """A block is denoised in pieces."""

    length_B: Tensor
    """int64. Of the pieces."""

    def open(self, open_BL: Tensor, params: StepParams) -> Tensor:
        offset_B = params.block_length_B - params.width_B
        return first_sub_block(open_BL, offset_B, self.length_B)


@dataclass(frozen=True)
class Chances(StepRule):
    """The policy ``origin`` accepts by chance."""

    uniform_BL: Tensor
    """float32 in (0, 1)."""

    def see(self, view: StepView, step_B: Tensor, params: StepParams) -> StepView:
        num_steps_B = torch.minimum(params.max_steps_B, params.width_B)
        share_B = transfer_share(step_B, num_steps_B)
        return replace(view, share_B=share_B, uniform_BL=self.uniform_BL)
