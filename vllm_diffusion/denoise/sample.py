"""The model's answer at each canvas position: a candidate token, and how sure.

Confidence, margin and entropy are those of the model's own distribution: not
scaled by the temperature, not cut by top-k or top-p. A temperature changes
which token is the candidate, not how sure the model is said to be of it.

Shape suffixes: N logits rows, V vocabulary, B requests, L canvas length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vllm_diffusion.denoise.random import gumbel
from vllm_diffusion.kernels.dispatch import row_stats
from vllm_diffusion.kernels.reference import RowStats
from vllm_diffusion.kernels.tiles import tiles


@dataclass(frozen=True, slots=True)
class Candidates:
    """One candidate a canvas position."""

    token_BL: Tensor
    """int64."""
    prob_BL: Tensor
    """float32. Probability of the candidate."""
    second_BL: Tensor
    """float32. Probability of the runner-up to the most probable token."""
    entropy_BL: Tensor
    """float32. Nats."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What draws leave out, by one rule of ``sampling.ops``: all tokens below some bound."""

    leave: Callable[..., Tensor]
    """Logits (N, V) and ``values`` to the logits with -inf where a token is left out."""
    values: tuple[Tensor, ...]
    """(N,) each, those of rows that do not ask leave all."""
    asks_N: Tensor
    """bool."""
    is_raw: bool = False
    """Reads logits that no temperature has scaled."""

    def at(self, index: Tensor | slice) -> Cut:
        values = tuple(value[index] for value in self.values)
        return Cut(self.leave, values, self.asks_N[index], self.is_raw)


@dataclass(frozen=True, slots=True)
class Draws:
    """The rows of a step whose candidate is drawn instead of the most probable one."""

    row_N: Tensor
    """int64. Rows of the step's logits."""
    temperature_N: Tensor
    """float32, above 0."""
    seed_N: Tensor
    """int64."""
    position_N: Tensor
    """int64. Absolute position of the token."""
    step_N: Tensor
    """int64. Denoising step of its block."""
    cuts: tuple[Cut, ...] = ()
    """In their order, those that some row asks for."""
    rows: NDArray[np.int64] | None = None
    """``row_N`` on the host, where it is known."""

    def at(self, index: Tensor | slice) -> Draws:
        """Some of the rows; not known to the host."""
        return Draws(
            row_N=self.row_N[index],
            temperature_N=self.temperature_N[index],
            seed_N=self.seed_N[index],
            position_N=self.position_N[index],
            step_N=self.step_N[index],
            cuts=tuple(cut.at(index) for cut in self.cuts),
        )

    def temper(self, logits_NV: Tensor) -> Tensor:
        """``temper`` of float32 rows (N, V), these ones in their order."""
        return temper(logits_NV, self.temperature_N, self.cuts)


def temper(logits_NV: Tensor, temperature_N: Tensor, cuts: Sequence[Cut] = ()) -> Tensor:
    """The logits (N, V) of the distribution that is drawn from."""
    for cut in cuts:
        if cut.is_raw:
            logits_NV = cut.leave(logits_NV, *cut.values)
    scaled_NV = logits_NV / temperature_N[:, None]
    for cut in cuts:
        if not cut.is_raw:
            scaled_NV = cut.leave(scaled_NV, *cut.values)
    return scaled_NV


def draw(logits_NV: Tensor, stats: RowStats, draws: Draws, mask_id: int) -> RowStats:
    """Replace the candidates of ``draws.row_N`` by draws (Gumbel-max), some rows at a time."""
    token_N = torch.empty_like(draws.row_N)
    log_prob_N = torch.empty_like(draws.temperature_N)
    for part in tiles(len(draws.row_N), logits_NV.shape[1]):
        one = draws.at(part)
        rows_NV = logits_NV[one.row_N].float()
        rows_NV[:, mask_id] = -torch.inf
        scaled_NV = one.temper(rows_NV)
        scaled_NV += gumbel(one.seed_N, one.position_N, one.step_N, rows_NV.shape[1])
        token_N[part] = scaled_NV.argmax(dim=-1)
        log_prob_N[part] = rows_NV.gather(1, token_N[part, None])[:, 0]
    log_prob_N -= stats.lse_N[draws.row_N]
    return stats._replace(
        argmax_N=stats.argmax_N.index_copy(0, draws.row_N, token_N),
        prob_N=stats.prob_N.index_copy(0, draws.row_N, log_prob_N.exp()),
    )


def candidates(
    logits_NV: Tensor, row_BL: Tensor, mask_id: int, draws: Draws | None = None
) -> Candidates:
    """Read the candidates of every canvas position off the step's logits.

    Args:
        logits_NV: (N, V), bf16, f16 or f32; read once and never copied, except
            the rows that are drawn.
        row_BL: int64 (B, L), the logits row of each canvas position; positions
            that do not exist may point at any row.
        mask_id: the mask token, which is never a candidate.
        draws: rows whose requests have a temperature; None when all are greedy.
    """
    stats = row_stats(logits_NV, exclude_id=mask_id)
    if draws is not None:
        stats = draw(logits_NV, stats, draws, mask_id)
    return Candidates(
        token_BL=stats.argmax_N[row_BL],
        prob_BL=stats.prob_N[row_BL],
        second_BL=stats.second_N[row_BL],
        entropy_BL=stats.entropy_N[row_BL],
    )
