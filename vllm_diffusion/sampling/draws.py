"""Which rows of the step's logits are drawn from, and with what.

Shape suffixes: S slots, B requests with a canvas, N rows that are drawn, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.canvases import Canvases, rows_of
from vllm_diffusion.batch.device import to_device
from vllm_diffusion.denoise.sample import Cut, Draws, temper

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.sampling_params import SamplingParams

    from vllm_diffusion.batch.slots import RequestParams
    from vllm_diffusion.sampling.base import SlotCut, SlotState


class DrawnRows:
    """Makes the draws of a step.

    Args:
        slots: what is known of all slots.
        cuts: makes each cut, in their order.
    """

    def __init__(self, slots: SlotState, cuts: Sequence[type[SlotCut]]) -> None:
        self.params: RequestParams = slots.params
        self.cuts = [make(slots) for make in cuts]
        self.asks_S = np.zeros(slots.num_slots, dtype=np.bool_)
        self._is_stale = False

    def add(self, slot: int, sampling: SamplingParams) -> None:
        """Write what the request that now owns ``slot`` leaves out."""
        for cut in self.cuts:
            cut.add(slot, sampling)
        self.asks_S[slot] = any(cut.asks_S[slot] for cut in self.cuts)
        self._is_stale = True

    def copy_to_device(self) -> None:
        """Make what was written visible to the next step."""
        if self._is_stale:
            for cut in self.cuts:
                cut.copy_to_device()
            self._is_stale = False

    def _asked(self, slot_N: NDArray[np.int64]) -> list[SlotCut]:
        if not self.asks_S[slot_N].any():
            return []
        return [cut for cut in self.cuts if cut.asks_S[slot_N].any()]

    def draws(self, batch: Canvases, step_S: Tensor, total_len_S: Tensor) -> Draws | None:
        """The logits rows of requests with a temperature; None when there are none.

        A draft is greedy: how it is made decides the speed alone. Its verification
        draws what causal decoding would draw, so a row's draw is keyed by the
        position after it, and by no step.

        Args:
            batch: the step's canvases.
            step_S: int64 (S,), steps that each slot's block has had.
            total_len_S: int32 (S,), known tokens of each slot.
        """
        params = self.params
        is_drawn = params.temperature.np[batch.slot_B] > 0
        if batch.is_draft_B is not None:
            is_drawn &= ~batch.is_draft_B
        if not np.count_nonzero(is_drawn):
            return None
        picked, offset, row, slot = rows_of(batch, is_drawn)
        is_verify = np.zeros_like(row)
        if batch.is_verify_B is not None:
            is_verify = batch.is_verify_B[is_drawn][picked].astype(np.int64)
        asked = self._asked(batch.slot_B[is_drawn])
        asks = [cut.asks_S[slot] for cut in asked]
        host = np.stack((offset + is_verify, row, slot, is_verify, *asks))
        offset_N, row_N, slot_N, is_verify_N, *asks_N = to_device(host, step_S.device).unbind(0)
        return Draws(
            row_N=row_N,
            temperature_N=params.temperature.gpu[slot_N],
            seed_N=params.seed.gpu[slot_N],
            position_N=total_len_S[slot_N] + offset_N,
            step_N=step_S[slot_N] * (1 - is_verify_N),
            cuts=tuple(
                Cut(cut.leave, cut.values(slot_N), one_N.bool(), cut.is_raw)
                for cut, one_N in zip(asked, asks_N, strict=True)
            ),
            rows=row,
        )

    def temper(self, logits_NV: Tensor, slots: NDArray[np.int64]) -> Tensor:
        """The logits that rows of requests with a temperature are drawn from.

        Args:
            logits_NV: float32 (N, V).
            slots: int64 (N,), of each row.
        """
        slot_N = to_device(slots, logits_NV.device)
        all_N = torch.ones_like(slot_N, dtype=torch.bool)
        cuts = [Cut(c.leave, c.values(slot_N), all_N, c.is_raw) for c in self._asked(slots)]
        return temper(logits_NV, self.params.temperature.gpu[slot_N], cuts)
