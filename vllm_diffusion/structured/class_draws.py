"""Draws by class of token: all that exact draws of texts need of a row of logits.

A token is drawn where its tempered logit plus its own Gumbel noise is largest, among those that may
stand there. Which classes may stand there depends on the text so far; which token is the winner of
its class does not. So one token a class is drawn, and a text is chosen among classes: it is, token
for token, the text that is drawn among all tokens.

Shape suffixes: N rows of the step's logits, P rows of them with an automaton, V vocabulary,
C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vllm_diffusion.denoise.random import gumbel, key_of
from vllm_diffusion.denoise.sample import Draws
from vllm_diffusion.kernels import cpu_class_stats
from vllm_diffusion.kernels.dispatch import uses_cpp
from vllm_diffusion.kernels.tiles import tiles
from vllm_diffusion.structured.class_stats import NEVER, tiles_of
from vllm_diffusion.structured.token_classes import TokenClasses

CUT = 1e4
"""What cuts leave out is drawn only where no text is left without it."""


class ClassDraws(NamedTuple):
    """(P, C) each."""

    total: Tensor
    """float64. Logarithm of the class's share of the tempered distribution, times a constant."""
    value: Tensor
    """float64. The largest tempered logit with its noise."""
    token: Tensor
    """int64. The token of that one; -1 for none."""


def class_draws(
    logits_NV: Tensor,
    row_P: NDArray[np.int64],
    classes_P: Sequence[TokenClasses],
    num_classes: int,
    excluded: int,
    draws: Draws,
) -> ClassDraws:
    """Draw from rows of logits by class.

    Args:
        logits_NV: of the step; float32, bfloat16 or float16.
        row_P: which rows.
        classes_P: the classes of each row's tokens; may be the same.
        num_classes: C, at least what any of them has.
        excluded: the mask token.
        draws: of these rows, in this order.
    """
    if not uses_cpp(logits_NV.is_cpu):
        return defined(logits_NV, row_P, classes_P, num_classes, excluded, draws)
    found = cpu_class_stats.class_draws(
        logits_NV,
        row_P,
        classes_P,
        num_classes,
        excluded,
        draws.temperature_N,
        _lowest(logits_NV, row_P, excluded, draws),
        key_of(draws.seed_N, draws.position_N, draws.step_N),
    )
    return ClassDraws(*found)


def _lowest(logits_NV: Tensor, row_P: NDArray[np.int64], excluded: int, draws: Draws) -> Tensor:
    """The least tempered logit that cuts leave of each row, -inf for all."""
    lowest_P = torch.full((len(row_P),), NEVER)
    if not draws.cuts:
        return lowest_P
    is_cut_P = torch.stack([cut.asks_N for cut in draws.cuts]).any(dim=0)
    cut = is_cut_P.nonzero()[:, 0]
    row = torch.from_numpy(row_P)[cut]
    for part in tiles(len(cut), logits_NV.shape[1]):
        rows_PV = logits_NV[row[part]].float()
        rows_PV[:, excluded] = NEVER
        kept_PV = draws.at(cut[part]).temper(rows_PV)
        lowest_P[cut[part]] = kept_PV.masked_fill_(kept_PV == NEVER, torch.inf).amin(dim=-1)
    return lowest_P


def defined(
    logits_NV: Tensor,
    row_P: NDArray[np.int64],
    classes_P: Sequence[TokenClasses],
    num_classes: int,
    excluded: int,
    draws: Draws,
) -> ClassDraws:
    """The definition, in torch, so many rows at a time as ``tiles`` allows."""
    parts = [
        _defined(rows_PV, class_PV, num_classes, draws.at(part))
        for rows_PV, class_PV, part in tiles_of(logits_NV, row_P, classes_P, excluded)
    ]
    if not parts:
        none = logits_NV[:0].float()
        parts = [_defined(none, none.long(), num_classes, draws)]
    return parts[0] if len(parts) == 1 else ClassDraws(*map(torch.cat, zip(*parts, strict=True)))


def _defined(rows_PV: Tensor, class_PV: Tensor, num_classes: int, draws: Draws) -> ClassDraws:
    kept_PV = draws.temper(rows_PV)
    if draws.cuts:
        scaled_PV = rows_PV / draws.temperature_N[:, None]
        kept_PV = torch.where(kept_PV == NEVER, scaled_PV - CUT, kept_PV)
        del scaled_PV
    none = kept_PV.new_full((len(rows_PV), num_classes), NEVER)
    top = none.scatter_reduce(1, class_PV, kept_PV, "amax")
    finite = torch.where(top == NEVER, 0.0, top)
    share_PV = (kept_PV - finite.gather(1, class_PV)).double().exp_()
    sums = torch.zeros_like(top, dtype=torch.float64).scatter_add(1, class_PV, share_PV)
    del share_PV
    size = rows_PV.shape[1]
    noisy_PV = kept_PV + gumbel(draws.seed_N, draws.position_N, draws.step_N, size)
    value = none.scatter_reduce(1, class_PV, noisy_PV, "amax")
    is_value_PV = (noisy_PV == value.gather(1, class_PV)) & (noisy_PV > NEVER)
    index_V = torch.arange(size, device=rows_PV.device).expand_as(class_PV)
    token = torch.full_like(top, size, dtype=torch.int64)
    token = token.scatter_reduce(1, class_PV, torch.where(is_value_PV, index_V, size), "amin")
    token = torch.where(token == size, -1, token)
    return ClassDraws(finite.double() + sums.log(), value.double(), token)
