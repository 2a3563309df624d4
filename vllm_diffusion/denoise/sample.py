"""The model's answer at each canvas position: a candidate token, and how sure.

Confidence, margin and entropy are those of the model's own distribution: not
scaled by the temperature, not cut by top-k or top-p. A temperature changes
which token is the candidate, not how sure the model is said to be of it.

Shape suffixes: N logits rows, V vocabulary, B requests, L canvas length.
"""

from __future__ import annotations

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
class Draws:
    """The rows of a step whose candidate is drawn instead of the most probable one."""

    row_N: Tensor
    """int64. Rows of the step's logits."""
    temperature_N: Tensor
    """float32, above 0."""
    top_k_N: Tensor
    """int64; V for all."""
    top_p_N: Tensor
    """float32 in (0, 1]."""
    seed_N: Tensor
    """int64."""
    position_N: Tensor
    """int64. Absolute position of the token."""
    step_N: Tensor
    """int64. Denoising step of its block."""
    min_p_N: Tensor | None = None
    """float32 in [0, 1]; None if nobody has one."""
    is_cut: bool = True
    """False where no row has a top-k, a top-p or a min-p that leaves something out."""
    rows: NDArray[np.int64] | None = None
    """``row_N`` on the host, where it is known."""

    def at(self, index: Tensor | slice) -> Draws:
        """Some of the rows; not known to the host."""
        return Draws(
            row_N=self.row_N[index],
            temperature_N=self.temperature_N[index],
            top_k_N=self.top_k_N[index],
            top_p_N=self.top_p_N[index],
            seed_N=self.seed_N[index],
            position_N=self.position_N[index],
            step_N=self.step_N[index],
            min_p_N=None if self.min_p_N is None else self.min_p_N[index],
            is_cut=self.is_cut,
        )

    def temper(self, logits_NV: Tensor) -> Tensor:
        """``temper`` of float32 rows (N, V), these ones in their order."""
        if not self.is_cut:
            return logits_NV / self.temperature_N[:, None]
        return temper(logits_NV, self.temperature_N, self.top_k_N, self.top_p_N, self.min_p_N)


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


def temper(
    logits_NV: Tensor,
    temperature_N: Tensor,
    top_k_N: Tensor,
    top_p_N: Tensor,
    min_p_N: Tensor | None = None,
) -> Tensor:
    """The logits (N, V) of the distribution that is drawn from.

    Temperature, min-p (arXiv 2407.01082: at least ``min_p`` times as probable as the best token),
    top-k, top-p, in vLLM's order.
    """
    scaled_NV = logits_NV / temperature_N[:, None]
    if min_p_N is not None:
        lowest_N1 = scaled_NV.amax(dim=-1, keepdim=True) + min_p_N.log()[:, None]
        scaled_NV = scaled_NV.masked_fill(scaled_NV < lowest_N1, -torch.inf)
    return keep_top(scaled_NV, top_k_N, top_p_N)


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
