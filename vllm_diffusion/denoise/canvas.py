"""The canvases of all requests: which tokens they hold and what is settled.

Shape suffixes: S slots (one a request that is being served), L canvas length.

Invariant: whether a position is still masked is a bitmap of its own. The mask
token's id is what the model reads at masked positions and never what decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class Canvas:
    """Canvas state by slot; position 0 of a row is the first token to generate."""

    tokens_SL: Tensor
    """int64. What the model reads; shared with the runner's draft tokens."""
    masked_SL: Tensor
    """bool. True where no token has been accepted yet."""
    step_S: Tensor
    """int64. Denoising steps that the current block has had."""
    post_step_S: Tensor
    """int64. Those among them that began without masks, where blocks are edited."""
    mask_id: int

    @classmethod
    def over(cls, tokens_SL: Tensor, mask_id: int) -> Canvas:
        """Build the state around ``tokens_SL`` (S, L), which is kept, not copied."""
        step_S = torch.zeros(tokens_SL.shape[0], dtype=torch.int64, device=tokens_SL.device)
        return cls(
            tokens_SL=tokens_SL,
            masked_SL=torch.ones_like(tokens_SL, dtype=torch.bool),
            step_S=step_S,
            post_step_S=step_S.clone(),
            mask_id=mask_id,
        )

    def clear(self, slot: int) -> None:
        """Start a fresh, wholly masked canvas in ``slot``."""
        self.tokens_SL[slot].fill_(self.mask_id)
        self.masked_SL[slot].fill_(True)
        self.step_S[slot].fill_(0)
        self.post_step_S[slot].fill_(0)
