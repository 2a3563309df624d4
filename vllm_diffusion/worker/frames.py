"""Frames of watched requests: what a denoising step saw and did, position by position.

Nothing is done in a step that nobody watches. In others the rows of the watched canvases are read
once more, for the two most probable tokens; what is copied to the host is as wide as a canvas.

Shape suffixes: S slots, R requests in the batch, W watched canvases, L canvas length,
N rows of logits, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.device import to_device
from vllm_diffusion.frames import State, Taken
from vllm_diffusion.kernels.tiles import tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.v1.worker.gpu.input_batch import InputBatch

    from vllm_diffusion.batch.canvases import Canvases
    from vllm_diffusion.denoise.canvas import Canvas


@dataclass(frozen=True, slots=True)
class Before:
    """The watched canvases before a step, and what the model makes of them."""

    picked_W: NDArray[np.int64]
    """Which of the step's canvases."""
    slot_W: Tensor
    row_WL: Tensor
    """int64, rows of the logits."""
    has_row_WL: Tensor
    """bool. A step that makes a block's first token alone has one row."""
    exists_WL: Tensor
    tokens_WL: Tensor
    masked_WL: Tensor
    step_W: Tensor
    log_sum_WL: Tensor
    """float32, of the exponentials of each row."""
    best_WL2: Tensor
    """int64, the two most probable tokens."""
    logit_WL2: Tensor


class Frames:
    """Takes the frames of a step.

    Args:
        canvas: of all slots.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        num_slots, length = canvas.tokens_SL.shape
        self.position_L = torch.arange(length, device=canvas.tokens_SL.device)
        self.is_watched_S = np.zeros(num_slots, dtype=np.bool_)
        self.has_any = False
        # Positions that stood before their block's first step.
        self.given_SL = torch.zeros_like(canvas.masked_SL)
        self.taken: Taken | None = None
        """Of the last step, until somebody fetches it."""

    def watch(self, slot: int, is_watched: bool) -> None:
        """Does somebody watch the request that now owns ``slot``?"""
        self.is_watched_S[slot] = is_watched
        self.has_any = bool(self.is_watched_S.any())

    def asked(self, input_batch: InputBatch) -> bool:
        """Is a request of the batch watched?"""
        return self.has_any and bool(self.is_watched_S[input_batch.idx_mapping_np].any())

    def before(self, logits_NV: Tensor, canvases: Canvases) -> Before | None:
        """Read the watched canvases, once the logits are what the step will see."""
        picked_W = np.flatnonzero(self.is_watched_S[canvases.slot_B])
        if len(picked_W) == 0:
            return None
        columns = (canvases.slot_B, canvases.row_start_B, canvases.num_rows_B, canvases.width_B)
        host = np.stack([column[picked_W] for column in columns])
        slot_W, start_W, num_rows_W, width_W = to_device(host, logits_NV.device).unbind(0)
        position_L = self.position_L
        row_WL = start_W[:, None] + torch.minimum(position_L, num_rows_W[:, None] - 1)
        log_sum, best, logit = self._read(logits_NV, row_WL.flatten())
        step_W, masked_WL = self.canvas.step_S[slot_W], self.canvas.masked_SL[slot_W]
        exists_WL = position_L < width_W[:, None]
        is_first_W1 = (step_W == 0)[:, None]
        given_WL = torch.where(is_first_W1, ~masked_WL & exists_WL, self.given_SL[slot_W])
        self.given_SL[slot_W] = given_WL
        return Before(
            picked_W=picked_W,
            slot_W=slot_W,
            row_WL=row_WL,
            has_row_WL=position_L < num_rows_W[:, None],
            exists_WL=exists_WL,
            tokens_WL=self.canvas.tokens_SL[slot_W],
            masked_WL=masked_WL & exists_WL,
            step_W=step_W,
            log_sum_WL=log_sum.view(row_WL.shape),
            best_WL2=best.view(*row_WL.shape, 2),
            logit_WL2=logit.view(*row_WL.shape, 2),
        )

    def _read(self, logits_NV: Tensor, row_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logarithms of sums, two best tokens and their logits, a tile of rows at a time."""
        sums, best, values = [], [], []
        for part in tiles(len(row_N), logits_NV.shape[1]):
            rows_NV = logits_NV[row_N[part]].float()
            rows_NV[:, self.canvas.mask_id] = float("-inf")
            top = rows_NV.topk(2, dim=-1)
            sums.append(rows_NV.logsumexp(-1))
            best.append(top.indices)
            values.append(top.values)
        if len(sums) == 1:
            return sums[0], best[0], values[0]
        return torch.cat(sums), torch.cat(best), torch.cat(values)

    def after(
        self,
        before: Before,
        logits_NV: Tensor,
        canvases: Canvases,
        sampled_RL: Tensor,
        num_sampled_R: Tensor,
    ) -> None:
        """Keep the frames of a step that is done."""
        canvas, slot_W = self.canvas, before.slot_W
        request_W = canvases.request_B[before.picked_W]
        on_device_W = to_device(request_W, logits_NV.device)
        num_emitted_W1 = num_sampled_R[on_device_W][:, None].long()
        position_L = self.position_L
        is_done_W1 = num_emitted_W1 > 0
        is_emitted_WL = position_L < num_emitted_W1
        exists_WL = torch.where(is_done_W1, is_emitted_WL, before.exists_WL)
        emitted_WL = torch.zeros_like(before.tokens_WL)
        emitted_WL[:, : sampled_RL.shape[1]] = sampled_RL[on_device_W]
        tokens_WL = torch.where(is_done_W1, emitted_WL, canvas.tokens_SL[slot_W])
        masked_WL = ~is_done_W1 & canvas.masked_SL[slot_W] & exists_WL
        best_WL, second_WL = before.best_WL2.unbind(-1)
        shown_WL = torch.where(masked_WL, best_WL, tokens_WL)
        state_WL = self._states(before, tokens_WL, masked_WL)
        logit_WL = logits_NV[before.row_WL, shown_WL].float()
        is_best_WL = shown_WL == best_WL
        other_WL = torch.where(is_best_WL, second_WL, best_WL)
        best_logit_WL, second_logit_WL = before.logit_WL2.unbind(-1)
        other_logit_WL = torch.where(is_best_WL, second_logit_WL, best_logit_WL)
        sums_WL = before.log_sum_WL
        probs_2WL = torch.stack(((logit_WL - sums_WL).exp(), (other_logit_WL - sums_WL).exp()))
        probs_2WL = torch.where(before.has_row_WL, probs_2WL, 0)
        whole_4WL = torch.stack((shown_WL, other_WL, state_WL, exists_WL.long()))
        self.taken = Taken(
            rows=request_W.tolist(),
            whole=whole_4WL.int().to("cpu", non_blocking=True),
            probs=probs_2WL.to("cpu", non_blocking=True),
        )

    def _states(self, before: Before, tokens_WL: Tensor, masked_WL: Tensor) -> Tensor:
        """int64 (W, L), a ``State`` each."""
        is_new_WL = before.masked_WL & ~masked_WL
        is_edited_WL = ~before.masked_WL & ~masked_WL & (tokens_WL != before.tokens_WL)
        state_WL = torch.full_like(tokens_WL, int(State.SETTLED))
        given_WL = self.given_SL[before.slot_W] & ~is_edited_WL & ~is_new_WL
        for where, state in (
            (given_WL, State.GIVEN),
            (is_edited_WL, State.EDITED),
            (is_new_WL, State.ACCEPTED),
            (masked_WL, State.MASKED),
        ):
            state_WL = state_WL.masked_fill(where, int(state))
        return state_WL

    def fetch(self) -> Taken | None:
        """The frames of the last step; the next caller gets none."""
        taken, self.taken = self.taken, None
        return taken
