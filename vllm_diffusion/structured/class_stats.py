"""What a row of logits says of each class of tokens; all that automata need of it.

A class has few numbers, a vocabulary many: behind this nothing of a step is as wide as a row.

Shape suffixes: N rows of the step's logits, P rows of them with an automaton, V vocabulary,
C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vllm_diffusion.kernels import cpu_class_stats
from vllm_diffusion.kernels.dispatch import uses_cpp
from vllm_diffusion.kernels.tiles import tiles
from vllm_diffusion.structured.token_classes import TokenClasses

NEVER = -torch.inf


class ClassStats(NamedTuple):
    """(P, C) each, of the model's own distribution without the mask token."""

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
    row_P: NDArray[np.int64],
    classes_P: Sequence[TokenClasses],
    num_classes: int,
    excluded: int,
) -> ClassStats:
    """Read rows of logits by class.

    Args:
        logits_NV: of the step; float32, bfloat16 or float16.
        row_P: which rows.
        classes_P: the classes of each row's tokens; may be the same.
        num_classes: C, at least what any of them has.
        excluded: the mask token.
    """
    if uses_cpp(logits_NV.is_cpu):
        found = cpu_class_stats.class_stats(logits_NV, row_P, classes_P, num_classes, excluded)
        return ClassStats(*found)
    return defined(logits_NV, row_P, classes_P, num_classes, excluded)


def defined(
    logits_NV: Tensor,
    row_P: NDArray[np.int64],
    classes_P: Sequence[TokenClasses],
    num_classes: int,
    excluded: int,
) -> ClassStats:
    """The definition, in torch, so many rows at a time as ``tiles`` allows."""
    parts = [
        _defined(rows_PV, class_PV, num_classes)
        for rows_PV, class_PV, _ in tiles_of(logits_NV, row_P, classes_P, excluded)
    ]
    if not parts:
        parts = [_defined(logits_NV[:0].float(), logits_NV[:0].long(), num_classes)]
    return parts[0] if len(parts) == 1 else ClassStats(*map(torch.cat, zip(*parts, strict=True)))


def tiles_of(
    logits_NV: Tensor,
    row_P: NDArray[np.int64],
    classes_P: Sequence[TokenClasses],
    excluded: int,
) -> Iterator[tuple[Tensor, Tensor, slice]]:
    """float32 rows without the mask token, int64 classes of their tokens, and which they are."""
    row = torch.from_numpy(row_P).to(logits_NV.device)
    for part in tiles(len(row_P), logits_NV.shape[1]):
        rows_PV = logits_NV[row[part]].float()
        rows_PV[:, excluded] = NEVER
        class_PV = torch.stack([one.on(logits_NV.device) for one in classes_P[part]]).long()
        yield rows_PV, class_PV, part


def _defined(rows_PV: Tensor, class_PV: Tensor, num_classes: int) -> ClassStats:
    log_p_PV = rows_PV.log_softmax(dim=-1)
    first = log_p_PV.new_full((len(rows_PV), num_classes), NEVER)
    first = first.scatter_reduce(1, class_PV, log_p_PV, "amax")
    total, weighted = _sums(log_p_PV, class_PV, first)
    is_first_PV = (log_p_PV == first.gather(1, class_PV)) & (log_p_PV > NEVER)
    size = log_p_PV.shape[1]
    index_V = torch.arange(size, device=rows_PV.device).expand_as(class_PV)
    lowest = torch.where(is_first_PV, index_V, size)
    token = torch.full_like(first, size, dtype=torch.int64)
    token = token.scatter_reduce(1, class_PV, lowest, "amin")
    is_token_PV = index_V == token.gather(1, class_PV)
    others_PV = log_p_PV.masked_fill(is_token_PV, NEVER)
    second = torch.full_like(first, NEVER).scatter_reduce(1, class_PV, others_PV, "amax")
    return ClassStats(total, weighted, first, second, torch.where(token == size, -1, token))


def _sums(log_p_PV: Tensor, class_PV: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """``total`` and ``weighted``; beside its most probable token no class is too improbable."""
    top = torch.where(first == NEVER, 0.0, first)
    q_PV = (log_p_PV - top.gather(1, class_PV)).double().exp_()
    sums = torch.zeros_like(first, dtype=torch.float64).scatter_add(1, class_PV, q_PV)
    total = top.double() + sums.log()
    # q log q, of which p log p is a multiple, and a multiple of q.
    q_PV = torch.special.entr(q_PV).neg_()
    weighted = torch.zeros_like(sums).scatter_add(1, class_PV, q_PV)
    return total, top.double().exp() * (weighted + top.double() * sums)
