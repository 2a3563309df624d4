"""``top_n_sigma``: tokens whose logit is within n standard deviations of the largest one.

    keep {v : l_v >= max(l) - n * std(l)},  l the logits before the temperature

Top-n-sigma sampling (arXiv 2411.07641): most of a row's logits are noise of about one normal
distribution, and what the model means stands out of it. Which tokens are kept does not depend on
the temperature. The mean and the deviation are those of the tokens that are possible: what biases,
bad words or a grammar have made impossible does not count, and neither does the mask token. A row
whose request is greedy is not drawn, so nothing is left out of it.

As in llama.cpp (``top_n_sigma``), the deviation is that of the population, divided by the number of
tokens. The authors' and Aphrodite's (``nsigma``) is ``torch.std``, divided by one less, which no
vocabulary notices; over all logits, so that one impossible token makes it NaN there, and nothing is
cut. llama.cpp counts whatever samplers before it have left, top-k's candidates too, if its chain
says so; here the row is read first.

Shape suffixes: S slots, N rows that are drawn, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.device import slot_array
from vllm_diffusion.request.sampling import read_sampling
from vllm_diffusion.sampling.base import SlotCut, SlotState

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams

FIELD = "top_n_sigma"


def keep_top_n_sigma(logits_NV: Tensor, num_sigma_N: Tensor) -> Tensor:
    """Set what is further from the largest logit to -inf; an infinite number keeps all.

    Args:
        logits_NV: float32 (N, V), not divided by the temperature.
        num_sigma_N: float32 (N,), how many standard deviations.
    """
    is_possible_NV = logits_NV > -torch.inf
    count_N1 = is_possible_NV.sum(dim=-1, keepdim=True)
    mean_N1 = logits_NV.masked_fill(~is_possible_NV, 0.0).sum(dim=-1, keepdim=True) / count_N1
    away_NV = (logits_NV - mean_N1).masked_fill_(~is_possible_NV, 0.0)
    std_N1 = (away_NV.square_().sum(dim=-1, keepdim=True) / count_N1).sqrt()
    lowest_N1 = logits_NV.amax(dim=-1, keepdim=True) - num_sigma_N[:, None] * std_N1
    return logits_NV.masked_fill(logits_NV < lowest_N1, -torch.inf)


class TopNSigma(SlotCut):
    is_raw = True

    def __init__(self, slots: SlotState) -> None:
        self.asks_S = np.zeros(slots.num_slots, dtype=np.bool_)
        self.num_sigma = slot_array(slots.num_slots, torch.float32)

    def add(self, slot: int, sampling: SamplingParams) -> None:
        said = read_sampling(sampling.extra_args).get(FIELD) or torch.inf
        self.num_sigma.np[slot] = said
        self.asks_S[slot] = said < torch.inf

    def copy_to_device(self) -> None:
        self.num_sigma.copy_to_uva()

    @staticmethod
    def leave(logits_NV: Tensor, *values_N: Tensor) -> Tensor:
        return keep_top_n_sigma(logits_NV, *values_N)

    @staticmethod
    def neutral(vocab_size: int) -> tuple[float, ...]:
        return (torch.inf,)

    def values(self, slot_N: Tensor) -> tuple[Tensor, ...]:
        return (self.num_sigma.gpu[slot_N],)
