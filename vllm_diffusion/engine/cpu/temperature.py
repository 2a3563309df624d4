"""Temperature and min-p: per-row scaling and truncation of the logits before sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.engine.cpu.logits import float32_rows


def apply_temperature(
    logits_ptr: Tensor,
    logits_stride: int,
    expanded_idx_mapping_ptr: Tensor,
    temperature_ptr: Tensor,
    vocab_size: int,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``gumbel._temperature_kernel``. Greedy rows (temperature 0) divide by 1, which
    changes nothing: one pass over all rows is cheaper than picking rows."""
    divisor = temperature_ptr.numpy()[expanded_idx_mapping_ptr.numpy()]
    divisor[divisor == 0] = 1
    if np.count_nonzero(divisor != 1):
        logits_ptr.div_(torch.from_numpy(divisor).unsqueeze(1))


def apply_min_p(
    logits_ptr: Tensor,
    logits_stride: int,
    expanded_idx_mapping_ptr: Tensor,
    min_p_ptr: Tensor,
    vocab_size: int,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``min_p._min_p_kernel``: drop tokens less likely than ``min_p`` times the likeliest,
    that is below ``max + log(min_p)``. Rows without min-p have a threshold of -inf."""
    min_p = min_p_ptr.numpy()[expanded_idx_mapping_ptr.numpy()]
    threshold = np.full(len(min_p), -np.inf, np.float32)
    np.log(min_p, out=threshold, where=min_p > 0)
    with float32_rows(logits_ptr) as logits:
        threshold += logits.max(axis=1)
        np.copyto(logits, -np.inf, where=logits < threshold[:, None])
