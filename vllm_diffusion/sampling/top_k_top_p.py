"""``top_k`` and ``top_p``: the most probable tokens, up to a number and up to a share.

One file, since they share a sort. Shape suffixes: S slots, N rows that are drawn, V vocabulary.
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


def keep_top(logits_NV: Tensor, top_k_N: Tensor, top_p_N: Tensor) -> Tensor:
    """Set what top-k and then top-p leave out to -inf; ties at the border stay in.

    Args:
        logits_NV: float32 (N, V), already divided by the temperature.
        top_k_N: int64 (N,), how many of the most probable tokens stay.
        top_p_N: float32 (N,), the mass that the smallest kept set must reach.
    """
    sorted_NV = logits_NV.sort(dim=-1, descending=True).values
    rank_V = torch.arange(logits_NV.shape[1], device=logits_NV.device)
    in_k_NV = rank_V < top_k_N[:, None]
    prob_NV = sorted_NV.masked_fill(~in_k_NV, -torch.inf).softmax(dim=-1)
    before_NV = prob_NV.cumsum(dim=-1) - prob_NV
    # Rounding may bring a sum to 1 before its end; a top-p of 1 leaves nothing out.
    kept_NV = in_k_NV & ((before_NV < top_p_N[:, None]) | (top_p_N >= 1)[:, None])
    lowest_N1 = sorted_NV.masked_fill(~kept_NV, torch.inf).amin(dim=-1, keepdim=True)
    return logits_NV.masked_fill(logits_NV < lowest_N1, -torch.inf)


class TopKTopP(SlotCut):
    is_raw = False

    def __init__(self, slots: SlotState) -> None:
        self.vocab_size = slots.params.vocab_size
        self.asks_S = np.zeros(slots.num_slots, dtype=np.bool_)
        self.top_k = slot_array(slots.num_slots, torch.int64)
        self.top_p = slot_array(slots.num_slots, torch.float32)

    def add(self, slot: int, sampling: SamplingParams) -> None:
        has_top_k = 0 < sampling.top_k < self.vocab_size
        self.top_k.np[slot] = sampling.top_k if has_top_k else self.vocab_size
        self.top_p.np[slot] = sampling.top_p
        self.asks_S[slot] = has_top_k or sampling.top_p < 1

    def copy_to_device(self) -> None:
        self.top_k.copy_to_uva()
        self.top_p.copy_to_uva()

    @staticmethod
    def leave(logits_NV: Tensor, *values_N: Tensor) -> Tensor:
        return keep_top(logits_NV, *values_N)

    @staticmethod
    def neutral(vocab_size: int) -> tuple[float, ...]:
        return (vocab_size, 1.0)

    def values(self, slot_N: Tensor) -> tuple[Tensor, ...]:
        return (self.top_k.gpu[slot_N], self.top_p.gpu[slot_N])
