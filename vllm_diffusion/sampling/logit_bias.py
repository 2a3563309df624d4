"""``logit_bias``: numbers that are added to the logits of some tokens.

Shape suffixes: S slots, N rows of logits, V vocabulary, P rows that ask, K ids a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.slot_lists import SlotLists
from vllm_diffusion.sampling.base import LogitsOp, SlotState
from vllm_diffusion.sampling.rows import asked_rows

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams

    from vllm_diffusion.batch.canvases import Canvases


def add_bias(logits_NV: Tensor, row_P: Tensor, ids_PK: Tensor, bias_PK: Tensor) -> None:
    """Add ``bias_PK`` (float32) to the logits of ``ids_PK``; an id has one bias."""
    row_P1 = row_P[:, None]
    biased_PK = logits_NV[row_P1, ids_PK].float() + bias_PK
    logits_NV[row_P1, ids_PK] = biased_PK.to(logits_NV.dtype)


class LogitBias(LogitsOp):
    def __init__(self, slots: SlotState) -> None:
        self.asks_S = np.zeros(slots.num_slots, dtype=np.bool_)
        self.ids = SlotLists(slots.num_slots)
        self.bias = SlotLists(slots.num_slots, torch.float32)

    def add(self, slot: int, sampling: SamplingParams) -> None:
        bias = sampling.logit_bias or {}
        self.ids.write(slot, [int(id) for id in bias])
        self.bias.write(slot, [float(value) for value in bias.values()])
        self.asks_S[slot] = bool(bias)

    def copy_to_device(self) -> None:
        self.ids.copy_to_device()
        self.bias.copy_to_device()

    def apply(self, logits_NV: Tensor, batch: Canvases) -> None:
        if (rows := asked_rows(batch, self.asks_S, logits_NV.device)) is not None:
            ids_PK = self.ids.of(rows.slot_Q)[rows.request_P]
            add_bias(logits_NV, rows.row_P, ids_PK, self.bias.of(rows.slot_Q)[rows.request_P])
