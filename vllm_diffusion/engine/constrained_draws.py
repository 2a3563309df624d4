"""The candidates of constrained requests with a temperature: exact draws of whole texts.

As ``constrained``, but a draw needs noise for every token, so the rows of logits are copied.

Shape suffixes: K constrained requests of the step, L canvas length, N rows of logits, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d

from vllm_diffusion.denoise.random import gumbel
from vllm_diffusion.denoise.sample import temper
from vllm_diffusion.engine.constrained import Constraints, Texts
from vllm_diffusion.structured import block_text
from vllm_diffusion.structured.posterior import (
    NEVER,
    Automata,
    Block,
    best_text,
    is_behind_end,
    is_forced,
    may_follow,
    path,
    summed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vllm_diffusion.denoise.sample import Draws
    from vllm_diffusion.engine.canvases import Canvases
    from vllm_diffusion.structured.dfa_matcher import TokenDfaMatcher

CUT = 1e4
"""What top-k, top-p and min-p leave out is drawn only where no text is left without it."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The model's own distributions."""

    num_rows_K: NDArray[np.int64]
    """Positions of each canvas that have a row of logits."""
    row_KL: NDArray[np.int64]
    """Their rows; behind them the last one."""
    prob_KLV: Tensor
    """float32."""


class DrawnConstraints:
    """Makes the texts of a step.

    Args:
        constraints: of the same engine, which keep its automata.
    """

    def __init__(self, constraints: Constraints) -> None:
        self.constraints, self.mask_id = constraints, constraints.mask_id

    def texts(
        self,
        logits_NV: Tensor,
        canvases: Canvases,
        index: Sequence[int],
        starts: Sequence[TokenDfaMatcher],
        num_left: Sequence[int],
        tokens_BL: Tensor,
        masked_BL: Tensor,
        draws: Draws | None,
        expected: Expected,
    ) -> Texts:
        """Choose texts, and write the marginals over the logits (N, V), as logarithms.

        Args:
            logits_NV: changed in place.
            canvases: of the step.
            index: the constrained ones, K of them.
            starts: where their texts stand in front of the canvas.
            num_left: tokens that each request may still emit, from its canvas's first position.
            tokens_BL: int64 (B, L).
            masked_BL: bool (B, L).
            draws: of the step.
            expected: what ``expect`` has kept of the logits before anything was masked.
        """
        device, length = logits_NV.device, tokens_BL.shape[1]
        automata = self.constraints.stacked(starts, device)
        num_rows_K, row_KL = expected.num_rows_K, expected.row_KL
        end_K = np.minimum(canvases.width_B[list(index)], num_left)
        position_L = np.arange(length)
        start_K = [start.state for start in starts]
        host = np.concatenate(
            (np.stack((index, start_K, end_K, np.array(num_left) - end_K, num_rows_K)).T, row_KL),
            axis=1,
        )
        host_K = async_tensor_h2d(host, device=device)
        index_K, start, end, slack, num_rows = host_K[:, :5].unbind(1)
        row_KL_device = host_K[:, 5:]
        fixed_KL = torch.where(masked_BL[index_K], -1, tokens_BL[index_K])
        has_row_KL = torch.arange(length, device=device) < num_rows[:, None]
        log_p_KLV = self._log_p(logits_NV, row_KL_device, has_row_KL)
        block = Block(log_p_KLV, fixed_KL, start, end, slack)
        to_exit, factor_KLC = summed(block, automata, has_factors=True)
        assert factor_KLC is not None
        factor_KLC = factor_KLC.float()
        has_text_K = to_exit[0].gather(1, start[:, None])[:, 0] > NEVER
        is_chosen_KL = (fixed_KL < 0) & has_row_KL & has_text_K[:, None]
        is_chosen_KL &= torch.arange(length, device=device) < end[:, None]
        token_KL, state_KL = self._choose(
            log_p_KLV, block, automata, row_KL_device, draws, len(logits_NV)
        )
        may_follow_KLV = may_follow(state_KL, to_exit, block, automata)
        mass_KL = expected.prob_KLV.masked_fill(~may_follow_KLV, 0.0).sum(dim=-1)
        is_doubted_KL = (mass_KL < block_text.TRUSTED) & is_chosen_KL
        num_doubted_KL = is_doubted_KL.cumsum(dim=1)
        is_first_KL = is_doubted_KL & (num_doubted_KL == 1)
        class_KLV = automata.class_KV[:, None].expand(log_p_KLV.shape)
        marginal_KLV = log_p_KLV + factor_KLC.gather(2, class_KLV)
        prob_KL = marginal_KLV.gather(2, token_KL[..., None])[..., 0].exp()
        own_KLV = logits_NV[row_KL_device]
        new_KLV = torch.where(is_chosen_KL[..., None], marginal_KLV.to(own_KLV.dtype), own_KLV)
        local_KLV = own_KLV.masked_fill(~may_follow_KLV, NEVER)
        new_KLV = torch.where(is_first_KL[..., None], local_KLV, new_KLV)
        # Positions without a row point at the last one; that one is written once.
        kept = np.flatnonzero(position_L < num_rows_K[:, None])
        kept_at = async_tensor_h2d(kept, device=device)
        logits_NV[row_KL_device.flatten()[kept_at]] = new_KLV.flatten(0, 1)[kept_at]
        is_forced_KL = is_forced(factor_KLC, block, automata) & is_chosen_KL
        is_behind_KL = is_behind_end(token_KL, automata) | ((num_doubted_KL > 0) & ~is_first_KL)
        is_behind_KL &= is_chosen_KL & ~is_forced_KL
        is_chosen_KL &= ~is_first_KL | is_forced_KL
        return Texts(
            index_K, token_KL, prob_KL, None, None, is_chosen_KL, is_forced_KL, is_behind_KL
        )

    def expect(
        self,
        logits_NV: Tensor,
        canvases: Canvases,
        index: Sequence[int],
        length: int,
    ) -> Expected:
        """What the model expects at the constrained canvases' positions, grammar or not."""
        num_rows_K = canvases.num_rows_B[list(index)]
        row_KL = canvases.row_start_B[list(index), None] + np.minimum(
            np.arange(length), num_rows_K[:, None] - 1
        )
        rows_KLV = logits_NV[async_tensor_h2d(row_KL, device=logits_NV.device)].float()
        rows_KLV[..., self.mask_id] = NEVER
        return Expected(num_rows_K, row_KL, rows_KLV.softmax(dim=-1))

    def _log_p(self, logits_NV: Tensor, row_KL: Tensor, has_row_KL: Tensor) -> Tensor:
        """The model's distributions; where the step has none, every token is as good."""
        rows_KLV = logits_NV[row_KL].float()
        rows_KLV[..., self.mask_id] = NEVER
        return torch.where(has_row_KL[..., None], rows_KLV.log_softmax(dim=-1), 0.0)

    @staticmethod
    def _choose(
        log_p_KLV: Tensor,
        block: Block,
        automata: Automata,
        row_KL: Tensor,
        draws: Draws | None,
        num_rows: int,
    ) -> tuple[Tensor, Tensor]:
        """The most probable text, or the drawn one of a request with a temperature; its states."""
        best = best_text(block, automata)
        if draws is None:
            return best
        at_N = torch.full((num_rows,), -1, device=row_KL.device, dtype=torch.int64)
        at_N[draws.row_N] = torch.arange(len(draws.row_N), device=row_KL.device)
        at_KL = at_N[row_KL]
        is_drawn_K1 = (at_KL >= 0).any(dim=1, keepdim=True)
        at_KL = at_KL.clamp(min=0)
        flat = at_KL.flatten()
        tempered_KLV = temper(
            log_p_KLV.flatten(0, 1),
            draws.temperature_N[flat],
            draws.top_k_N[flat],
            draws.top_p_N[flat],
            None if draws.min_p_N is None else draws.min_p_N[flat],
        ).view(log_p_KLV.shape)
        scaled_KLV = log_p_KLV / draws.temperature_N[at_KL][..., None]
        tempered_KLV = torch.where(tempered_KLV == NEVER, scaled_KLV - CUT, tempered_KLV)
        block = replace(block, log_p_KLV=tempered_KLV)

        def noise(position: int) -> Tensor:
            at_K = at_KL[:, position]
            return gumbel(
                draws.seed_N[at_K],
                draws.position_N[at_K],
                draws.step_N[at_K],
                log_p_KLV.shape[2],
            )

        to_exit, _ = summed(block, automata, has_factors=False)
        drawn = path(tempered_KLV, to_exit, block, automata, noise)
        return (
            torch.where(is_drawn_K1, drawn[0], best[0]),
            torch.where(is_drawn_K1, drawn[1], best[1]),
        )
