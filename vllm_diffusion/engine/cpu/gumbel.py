"""Gumbel-max sampling: the argmax of noisy logits is a draw from their softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.engine.cpu.noise import Noise32, Noise64

# Keeps the noise of a draft apart from the noise of its verification.
_DRAFT_NOISE_SALT = 1 << 30

# Elements worked on at a time: the scratch arrays then stay in a core's own cache.
_TILE = 1 << 16


def gumbel_sample(
    local_argmax_ptr: Tensor,
    local_argmax_stride: int,
    local_max_ptr: Tensor,
    local_max_stride: int,
    logits_cache_ptr: Tensor | None,
    logits_cache_stride_0: int,
    logits_cache_stride_1: int,
    logits_cache_col_ptr: Tensor | None,
    logits_cache_source_ptr: Tensor | None,
    logits_cache_source_stride: int,
    logits_ptr: Tensor,
    logits_stride: int,
    expanded_idx_mapping_ptr: Tensor,
    seeds_ptr: Tensor,
    pos_ptr: Tensor,
    temp_ptr: Tensor,
    vocab_size: int,
    BLOCK_SIZE: int,
    IS_DRAFTING: bool,
    APPLY_TEMPERATURE: bool,
    USE_FP64: bool,
    PER_TOKEN_COL: bool,
    **_: Any,
) -> None:
    """Replace ``gumbel._gumbel_sample_kernel``: per row and block of the vocabulary, the argmax of
    ``logits / temperature + noise`` and its value; plain argmax at temperature 0.

    The loops are over tiles of rows and vocabulary blocks that fit into the cache.
    """
    num_tokens = logits_ptr.shape[0]
    if num_tokens == 0:
        return
    req = expanded_idx_mapping_ptr.numpy()[:num_tokens]
    is_valid = req >= 0
    if logits_cache_ptr is not None:
        assert logits_cache_col_ptr is not None
        assert logits_cache_source_ptr is not None
        _store_logits(
            logits_cache_ptr, logits_cache_col_ptr, logits_cache_source_ptr, req, is_valid
        )
    temperature = temp_ptr.numpy()[req] * is_valid
    seeds = seeds_ptr.numpy()[req] * is_valid
    positions = pos_ptr.numpy()[:num_tokens].astype(np.int64, copy=False)
    if IS_DRAFTING:
        positions = positions + _DRAFT_NOISE_SALT

    logits = logits_ptr.float().numpy()
    local_argmax = local_argmax_ptr.numpy()
    local_max = local_max_ptr.numpy()
    noise = None
    if np.count_nonzero(temperature):
        noise = (Noise64 if USE_FP64 else Noise32)(seeds, positions)
    num_blocks = -(-vocab_size // BLOCK_SIZE)
    tile_blocks = min(num_blocks, max(1, _TILE // BLOCK_SIZE))
    tile_rows = max(1, _TILE // (tile_blocks * BLOCK_SIZE))
    for start in range(0, num_tokens, tile_rows):
        rows = slice(start, min(start + tile_rows, num_tokens))
        temps = temperature[rows]
        picked = temps.nonzero()[0]
        for block in range(0, num_blocks, tile_blocks):
            blocks = slice(block, min(block + tile_blocks, num_blocks))
            first, last = block * BLOCK_SIZE, min(blocks.stop * BLOCK_SIZE, vocab_size)
            scores = np.full(
                (len(temps), (blocks.stop - block) * BLOCK_SIZE), -np.inf, local_max.dtype
            )
            values = scores[:, : last - first]
            values[:] = logits[rows, first:last]
            if noise is not None and len(picked):
                sampled = logits[rows, first:last][picked]
                if APPLY_TEMPERATURE:
                    sampled /= temps[picked, None]
                values[picked] = sampled + noise.tile(start + picked, first, last)
            _block_argmax(
                scores, first, BLOCK_SIZE, local_argmax[rows, blocks], local_max[rows, blocks]
            )


def _block_argmax(
    scores: np.ndarray, first: int, block_size: int, argmax: np.ndarray, maximum: np.ndarray
) -> None:
    """Write the place and value of the maximum of every block of `scores`, whose columns are the
    tokens from `first` on."""
    shape = argmax.shape
    blocks = scores.reshape(-1, block_size)
    best = blocks.argmax(axis=1)
    maximum[:] = blocks[np.arange(len(best)), best].reshape(shape)
    np.add(best.reshape(shape), first + np.arange(shape[1]) * block_size, out=argmax)


def _store_logits(
    cache: Tensor, columns: Tensor, source: Tensor, req: np.ndarray, is_valid: np.ndarray
) -> None:
    """Keep the logits before temperature for a later verification of drafts."""
    kept = torch.from_numpy(is_valid.nonzero()[0])
    column = columns.expand(len(req))[kept].long()
    cache[torch.from_numpy(req)[kept].long(), column, : source.shape[1]] = source[kept]
