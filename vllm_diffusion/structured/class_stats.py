"""What a row of logits says of each class of tokens; all that automata need of it.

A class has few numbers, a vocabulary many: behind this nothing of a step is as wide as a row.

Shape suffixes: N rows of the step's logits, R of them with an automaton, V vocabulary, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vllm_diffusion.kernels import cpu_class_stats
from vllm_diffusion.kernels.dispatch import uses_cpp

NEVER = -torch.inf


class ClassStats(NamedTuple):
    """(R, C) each, of the model's own distribution without the mask token."""

    total: Tensor
    """float64. Logarithm of the probability of the class."""
    weighted: Tensor
    """float64. Sum of p log p over its tokens."""
    first: Tensor
    """float32. Log-probability of its most probable token."""
    second: Tensor
    """float32. Of the runner-up; -inf where there is none."""
    token: Tensor
    """int64. The most probable token; -1 for none."""


def class_stats(
    logits_NV: Tensor,
    row_R: NDArray[np.int64],
    class_RV: Sequence[NDArray[np.int32]],
    num_classes: int,
    excluded: int,
) -> ClassStats:
    """Read rows of logits by class.

    Args:
        logits_NV: of the step.
        row_R: which rows.
        class_RV: the class of each token, an array a row; may be the same one.
        num_classes: C.
        excluded: the mask token.
    """
    if uses_cpp(logits_NV.is_cpu):
        rows = row_R
        if logits_NV.dtype != torch.float32 or not logits_NV.is_contiguous():
            logits_NV = logits_NV[torch.from_numpy(row_R)].float().contiguous()
            rows = np.arange(len(row_R))
        found = cpu_class_stats.class_stats(logits_NV, rows, class_RV, num_classes, excluded)
        return ClassStats(*found)
    return defined(logits_NV, row_R, class_RV, num_classes, excluded)


def defined(
    logits_NV: Tensor,
    row_R: NDArray[np.int64],
    class_RV: Sequence[NDArray[np.int32]],
    num_classes: int,
    excluded: int,
) -> ClassStats:
    """The definition, in torch."""
    device = logits_NV.device
    rows_RV = logits_NV[torch.from_numpy(row_R).to(device)].float()
    rows_RV[:, excluded] = NEVER
    log_p_RV = rows_RV.log_softmax(dim=-1)
    class_RV_device = torch.stack([torch.from_numpy(array) for array in class_RV]).to(device).long()
    shape = (len(row_R), num_classes)
    p_RV = log_p_RV.double().exp()
    total = log_p_RV.new_zeros(shape, dtype=torch.float64).scatter_add(1, class_RV_device, p_RV)
    weighted = torch.zeros_like(total).scatter_add(
        1, class_RV_device, torch.special.entr(p_RV).neg()
    )
    first = log_p_RV.new_full(shape, NEVER)
    first = first.scatter_reduce(1, class_RV_device, log_p_RV, "amax")
    is_first_RV = (log_p_RV == first.gather(1, class_RV_device)) & (log_p_RV > NEVER)
    size = log_p_RV.shape[1]
    index_V = torch.arange(size, device=device).expand_as(class_RV_device)
    lowest = torch.where(is_first_RV, index_V, size)
    token = torch.full(shape, size, device=device)
    token = token.scatter_reduce(1, class_RV_device, lowest, "amin")
    is_token_RV = index_V == token.gather(1, class_RV_device)
    others_RV = log_p_RV.masked_fill(is_token_RV, NEVER)
    second = torch.full_like(first, NEVER).scatter_reduce(1, class_RV_device, others_RV, "amax")
    return ClassStats(total.log(), weighted, first, second, torch.where(token == size, -1, token))
