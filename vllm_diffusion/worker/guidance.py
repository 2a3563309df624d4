"""Classifier-free guidance of full-attention models: a second sequence in the same query.

    l = l_u + (w + 1) (l_c - l_u)

LLaDA (ML-GSAI/LLaDA, ``generate.py``): l_c are the logits as usual, l_u those of
the same sequence with its prompt masked. A guided request's query holds both,
the second one from the next page border on, so that each has K and V of its
own in the request's pages. What lies between them is computed and never read.

Shape suffixes: R requests of the batch, S sequences of attention, N tokens of
the batch, K rows of logits, G guided ones among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d

from vllm_diffusion.mask_groups.sequences import VirtualSequences
from vllm_diffusion.mask_groups.spans import second_start

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vllm_diffusion.batch.view import BatchView


def split_guided(
    query_start_loc: NDArray[np.int32],
    length_R: NDArray[np.int64],
    is_guided_R: NDArray[np.bool_],
    page: int,
) -> tuple[VirtualSequences, NDArray[np.int64]]:
    """Each guided request as its two sequences and the gap between them.

    Args:
        query_start_loc: int32 (R + 1,), borders of the requests' queries.
        length_R: int64 (R,), length of one sequence, all of which has K and V.
        is_guided_R: bool (R,).
        page: tokens of a KV page.

    Returns:
        The sequences, and int64 (S,) by how many pages each one's block table starts later.
    """
    start_R = query_start_loc[:-1].astype(np.int64)
    second_R = second_start(length_R, page)
    zero_R = np.zeros_like(length_R)
    # Three pieces a request; those that do not exist are empty and left out.
    pieces = np.stack(
        (
            np.where(is_guided_R, length_R, np.diff(query_start_loc)),
            np.where(is_guided_R, second_R - length_R, zero_R),
            np.where(is_guided_R, length_R, zero_R),
        ),
        axis=1,
    )
    keys = np.stack((length_R, second_R - length_R, length_R), axis=1)
    shift = np.stack((zero_R, zero_R, second_R // page), axis=1)
    exists = pieces > 0
    request_S = np.repeat(np.arange(len(length_R)), 3)[exists.ravel()]
    lengths = pieces[exists]
    borders = np.concatenate(([start_R[0]], start_R[0] + np.cumsum(lengths))).astype(np.int32)
    sequences = VirtualSequences(
        query_start_loc=borders,
        seq_lens=keys[exists].astype(np.int32),
        request_S=request_S,
        max_query_len=int(lengths.max()),
        max_seq_len=int(keys[exists].max()),
    )
    return sequences, shift[exists]


def shifted_table(table_SP: Tensor, shift_S: Tensor) -> Tensor:
    """Block tables (S, P) that start ``shift_S`` pages later."""
    num_pages = table_SP.shape[1]
    page_SP = torch.arange(num_pages, device=table_SP.device) + shift_S[:, None]
    return table_SP.gather(1, page_SP.clamp(max=num_pages - 1))


def unconditional_offset(view: BatchView, second_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """What to take off the positions of the batch's tokens, int64 (N,).

    ``second_R`` is where the second sequence starts, beyond any query if there is none.
    """
    length_R = view.end_R - view.start_R
    request = np.repeat(np.arange(len(length_R)), length_R)
    first = np.repeat(np.cumsum(length_R) - length_R, length_R)
    position = np.arange(len(request)) - first + view.start_R[request]
    offset: NDArray[np.int64] = np.where(position >= second_R[request], second_R[request], 0)
    return offset


def guide(
    logits_KV: Tensor, is_guided_K: NDArray[np.bool_], scale_K: NDArray[np.float32]
) -> Tensor:
    """Guided logits (K, V), written over the conditional ones.

    Args:
        logits_KV: (K + G, V); the last G rows are the unconditional ones of the guided rows.
        is_guided_K: bool (K,), on the host.
        scale_K: float32 (K,), on the host: w of each row's request.
    """
    num_rows = len(is_guided_K)
    row_np = np.flatnonzero(is_guided_K)
    row_G = async_tensor_h2d(row_np, device=logits_KV.device)
    scale_G1 = async_tensor_h2d(scale_K[row_np], device=logits_KV.device)[:, None]
    conditional_GV = logits_KV[row_G].float()
    unconditional_GV = logits_KV[num_rows:].float()
    guided_GV = unconditional_GV + (scale_G1 + 1) * (conditional_GV - unconditional_GV)
    logits_KV[row_G] = guided_GV.to(logits_KV.dtype)
    return logits_KV[:num_rows]
