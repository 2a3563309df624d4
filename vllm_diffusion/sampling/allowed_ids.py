"""``allowed_token_ids``: all other tokens are impossible.

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


def keep_allowed(logits_NV: Tensor, row_P: Tensor, ids_PK: Tensor) -> None:
    """Forbid everything but ``ids_PK`` in the rows ``row_P``."""
    row_P1 = row_P[:, None]
    kept_PK = logits_NV[row_P1, ids_PK]
    logits_NV.index_fill_(0, row_P, -torch.inf)
    logits_NV[row_P1, ids_PK] = kept_PK


class AllowedIds(LogitsOp):
    def __init__(self, slots: SlotState) -> None:
        self.asks_S = np.zeros(slots.num_slots, dtype=np.bool_)
        self.ids = SlotLists(slots.num_slots)

    def add(self, slot: int, sampling: SamplingParams) -> None:
        self.ids.write(slot, sampling.allowed_token_ids or ())
        self.asks_S[slot] = bool(sampling.allowed_token_ids)

    def copy_to_device(self) -> None:
        self.ids.copy_to_device()

    def apply(self, logits_NV: Tensor, batch: Canvases) -> None:
        if (rows := asked_rows(batch, self.asks_S, logits_NV.device)) is not None:
            keep_allowed(logits_NV, rows.row_P, self.ids.of(rows.slot_Q)[rows.request_P])
