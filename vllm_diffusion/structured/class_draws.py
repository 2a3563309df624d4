"""Draws by class of token: all that exact draws of texts need of a row of logits.

A token is drawn where its tempered logit plus its own Gumbel noise is largest, among those that may
stand there. Which classes may stand there depends on the text so far; which token is the winner of
its class does not. So one token a class is drawn, and a text is chosen among classes: it is, token
for token, the text that is drawn among all tokens.

Shape suffixes: N rows of the step's logits, R of them with an automaton, V vocabulary, C classes.
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
    """(R, C) each."""

    total: Tensor
    """float64. Logarithm of the class's share of the tempered distribution, times a constant."""
    value: Tensor
    """float64. The largest tempered logit with its noise."""
    token: Tensor
    """int64. The token of that one; -1 for none."""


def class_draws(
    logits_NV: Tensor,
    row_R: NDArray[np.int64],
    classes_R: Sequence[TokenClasses],
    num_classes: int,
    excluded: int,
    draws: Draws,
) -> ClassDraws:
    """Draw from rows of logits by class.

    Args:
        logits_NV: of the step; float32, bfloat16 or float16.
        row_R: which rows.
        classes_R: the classes of each row's tokens; may be the same.
        num_classes: C, at least what any of them has.
        excluded: the mask token.
        draws: of these rows, in this order.
    """
    if not uses_cpp(logits_NV.is_cpu):
        return defined(logits_NV, row_R, classes_R, num_classes, excluded, draws)
    found = cpu_class_stats.class_draws(
        logits_NV,
        row_R,
        classes_R,
        num_classes,
        excluded,
        draws.temperature_N,
        _lowest(logits_NV, row_R, excluded, draws),
        key_of(draws.seed_N, draws.position_N, draws.step_N),
    )
    return ClassDraws(*found)


def _lowest(logits_NV: Tensor, row_R: NDArray[np.int64], excluded: int, draws: Draws) -> Tensor:
    """The least tempered logit that cuts leave of each row, -inf for all."""
    lowest_R = torch.full((len(row_R),), NEVER)
    if not draws.cuts:
        return lowest_R
    is_cut_R = torch.stack([cut.asks_N for cut in draws.cuts]).any(dim=0)
    cut = is_cut_R.nonzero()[:, 0]
    row = torch.from_numpy(row_R)[cut]
    for part in tiles(len(cut), logits_NV.shape[1]):
        rows_RV = logits_NV[row[part]].float()
        rows_RV[:, excluded] = NEVER
        kept_RV = draws.at(cut[part]).temper(rows_RV)
        lowest_R[cut[part]] = kept_RV.masked_fill_(kept_RV == NEVER, torch.inf).amin(dim=-1)
    return lowest_R


def defined(
    logits_NV: Tensor,
    row_R: NDArray[np.int64],
    classes_R: Sequence[TokenClasses],
    num_classes: int,
    excluded: int,
    draws: Draws,
) -> ClassDraws:
    """The definition, in torch, so many rows at a time as ``tiles`` allows."""
    parts = [
        _defined(rows_RV, class_RV, num_classes, draws.at(part))
        for rows_RV, class_RV, part in tiles_of(logits_NV, row_R, classes_R, excluded)
    ]
    if not parts:
        none = logits_NV[:0].float()
        parts = [_defined(none, none.long(), num_classes, draws)]
    return parts[0] if len(parts) == 1 else ClassDraws(*map(torch.cat, zip(*parts, strict=True)))


def _defined(rows_RV: Tensor, class_RV: Tensor, num_classes: int, draws: Draws) -> ClassDraws:
    kept_RV = draws.temper(rows_RV)
    if draws.cuts:
        scaled_RV = rows_RV / draws.temperature_N[:, None]
        kept_RV = torch.where(kept_RV == NEVER, scaled_RV - CUT, kept_RV)
        del scaled_RV
    none = kept_RV.new_full((len(rows_RV), num_classes), NEVER)
    top = none.scatter_reduce(1, class_RV, kept_RV, "amax")
    finite = torch.where(top == NEVER, 0.0, top)
    share_RV = (kept_RV - finite.gather(1, class_RV)).double().exp_()
    sums = torch.zeros_like(top, dtype=torch.float64).scatter_add(1, class_RV, share_RV)
    del share_RV
    size = rows_RV.shape[1]
    noisy_RV = kept_RV + gumbel(draws.seed_N, draws.position_N, draws.step_N, size)
    value = none.scatter_reduce(1, class_RV, noisy_RV, "amax")
    is_value_RV = (noisy_RV == value.gather(1, class_RV)) & (noisy_RV > NEVER)
    index_V = torch.arange(size, device=rows_RV.device).expand_as(class_RV)
    token = torch.full_like(top, size, dtype=torch.int64)
    token = token.scatter_reduce(1, class_RV, torch.where(is_value_RV, index_V, size), "amin")
    token = torch.where(token == size, -1, token)
    return ClassDraws(finite.double() + sums.log(), value.double(), token)
