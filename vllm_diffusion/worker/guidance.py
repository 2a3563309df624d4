"""Classifier-free guidance of full-attention models: a second sequence in the same query.

    l = l_u + (w + 1) (l_c - l_u)

LLaDA (ML-GSAI/LLaDA, ``generate.py``): l_c are the logits as usual, l_u those of
the same sequence with its prompt masked. A guided request's query holds both,
the second one from the next page border on, so that each has K and V of its
own in the request's pages. What lies between them is computed and never read.

``mask_groups/guidance.py`` says where the two lie.

Shape suffixes: S sequences of attention, P pages, N rows of logits, G guided ones among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d

if TYPE_CHECKING:
    from numpy.typing import NDArray


def shifted_table(table_SP: Tensor, shift_S: Tensor) -> Tensor:
    """Block tables (S, P) that start ``shift_S`` pages later."""
    num_pages = table_SP.shape[1]
    page_SP = torch.arange(num_pages, device=table_SP.device) + shift_S[:, None]
    return table_SP.gather(1, page_SP.clamp(max=num_pages - 1))


def guide(
    logits_NV: Tensor, is_guided_N: NDArray[np.bool_], scale_N: NDArray[np.float32]
) -> Tensor:
    """Guided logits (N, V), written over the conditional ones.

    Args:
        logits_NV: (N + G, V); the last G rows are the unconditional ones of the guided rows.
        is_guided_N: bool (N,), on the host.
        scale_N: float32 (N,), on the host: w of each row's request.
    """
    num_rows = len(is_guided_N)
    row_np = np.flatnonzero(is_guided_N)
    row_G = async_tensor_h2d(row_np, device=logits_NV.device)
    scale_G1 = async_tensor_h2d(scale_N[row_np], device=logits_NV.device)[:, None]
    conditional_GV = logits_NV[row_G].float()
    unconditional_GV = logits_NV[num_rows:].float()
    guided_GV = unconditional_GV + (scale_G1 + 1) * (conditional_GV - unconditional_GV)
    logits_NV[row_G] = guided_GV.to(logits_NV.dtype)
    return logits_NV[:num_rows]
