"""Which rows of the step's logits are drawn from, and with what.

Shape suffixes: S slots, B requests with a canvas, N rows that are drawn.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d

from vllm_diffusion.batch.canvases import Canvases, rows_of
from vllm_diffusion.batch.slots import RequestParams
from vllm_diffusion.denoise.sample import Draws


def draws_of(
    of: Canvases, params: RequestParams, step_S: Tensor, total_len_S: Tensor
) -> Draws | None:
    """The logits rows of requests with a temperature; None when there are none.

    A draft is greedy: how it is made decides the speed alone. Its verification
    draws what causal decoding would draw, so a row's draw is keyed by the
    position after it, and by no step.

    Args:
        of: the step's canvases.
        params: of all slots.
        step_S: int64 (S,), steps that each slot's block has had.
        total_len_S: int32 (S,), known tokens of each slot.
    """
    is_drawn = params.temperature.np[of.slot_B] > 0
    if of.is_draft_B is not None:
        is_drawn &= ~of.is_draft_B
    if not np.count_nonzero(is_drawn):
        return None
    picked, offset, row, slot = rows_of(of, is_drawn)
    is_verify = np.zeros_like(row)
    if of.is_verify_B is not None:
        is_verify = of.is_verify_B[is_drawn][picked].astype(np.int64)
    host = np.stack((offset + is_verify, row, slot, is_verify))
    offset_N, row_N, slot_N, is_verify_N = async_tensor_h2d(host, device=step_S.device)
    slots = of.slot_B[is_drawn]
    has_min_p = bool((params.min_p.np[slots] > 0).any())
    has_top_k = bool((params.top_k.np[slots] < params.vocab_size).any())
    has_top_p = bool((params.top_p.np[slots] < 1).any())
    return Draws(
        row_N=row_N,
        temperature_N=params.temperature.gpu[slot_N],
        top_k_N=params.top_k.gpu[slot_N],
        top_p_N=params.top_p.gpu[slot_N],
        seed_N=params.seed.gpu[slot_N],
        position_N=total_len_S[slot_N] + offset_N,
        step_N=step_S[slot_N] * (1 - is_verify_N),
        min_p_N=params.min_p.gpu[slot_N] if has_min_p else None,
        is_cut=has_min_p or has_top_k or has_top_p,
        rows=row,
    )
