"""``min_p`` (arXiv 2407.01082): tokens at least so many times as probable as the best one.

Shape suffixes: S slots, N rows that are drawn, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.device import slot_array
from vllm_diffusion.sampling.base import SlotCut, SlotState

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams


class MinP(SlotCut):
    is_raw = False

    def __init__(self, slots: SlotState) -> None:
        self.asks_S = np.zeros(slots.num_slots, dtype=np.bool_)
        self.min_p = slot_array(slots.num_slots, torch.float32)

    def add(self, slot: int, sampling: SamplingParams) -> None:
        self.min_p.np[slot] = sampling.min_p
        self.asks_S[slot] = sampling.min_p > 0

    def copy_to_device(self) -> None:
        self.min_p.copy_to_uva()

    @staticmethod
    def leave(logits_NV: Tensor, *values_N: Tensor) -> Tensor:
        (min_p_N,) = values_N
        lowest_N1 = logits_NV.amax(dim=-1, keepdim=True) + min_p_N.log()[:, None]
        return logits_NV.masked_fill(logits_NV < lowest_N1, -torch.inf)

    @staticmethod
    def neutral(vocab_size: int) -> tuple[float, ...]:
        return (0.0,)

    def values(self, slot_N: Tensor) -> tuple[Tensor, ...]:
        return (self.min_p.gpu[slot_N],)
