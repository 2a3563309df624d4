"""Gumbel-max sampling with counter-based noise.

The noise of a token is a murmur3 hash of (seed, position, token id), so a draw depends neither on
the batch nor on the rank. Every operation is the Triton kernel's own, in its order and precision:
results are equal bit for bit wherever Triton's logarithm is NumPy's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Keeps the noise of a draft apart from the noise of its verification.
_DRAFT_NOISE_SALT = 1 << 30
_HIGH_WORD_DOMAIN = 0x9E3779B9
_TINY = np.float32(5.960464477539063e-08)

# Elements worked on at a time: the five scratch arrays then stay in a core's own cache.
_CHUNK = 1 << 14


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

    Rows are worked on in groups small enough for the cache, hence the loop over groups of rows.
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

    num_blocks = -(-vocab_size // BLOCK_SIZE)
    padded = num_blocks * BLOCK_SIZE
    logits = logits_ptr.float().numpy()
    local_argmax = local_argmax_ptr.numpy()[:, :num_blocks]
    local_max = local_max_ptr.numpy()[:, :num_blocks]
    group = min(num_tokens, max(1, _CHUNK // padded))
    dtype = np.float64 if USE_FP64 else np.float32
    scores = np.full((group, padded), -np.inf, dtype)
    first_token = np.arange(num_blocks) * BLOCK_SIZE
    noise = _noise64 if USE_FP64 else _noise32
    for start in range(0, num_tokens, group):
        rows = slice(start, min(start + group, num_tokens))
        size = rows.stop - start
        values = scores[:size, :vocab_size]
        temps = temperature[rows]
        num_sampled = np.count_nonzero(temps)
        if num_sampled == 0:
            values[:] = logits[rows]
        elif num_sampled == size:
            sampled = logits[rows] / temps[:, None] if APPLY_TEMPERATURE else logits[rows]
            np.add(sampled, noise(seeds[rows], positions[rows], vocab_size), out=values)
        else:
            values[:] = logits[rows]
            picked = temps.nonzero()[0]
            sampled = values[picked].astype(np.float32, copy=False)
            if APPLY_TEMPERATURE:
                sampled /= temps[picked, None]
            values[picked] = sampled + noise(
                seeds[rows][picked], positions[rows][picked], vocab_size
            )
        blocks = scores[:size].reshape(size * num_blocks, BLOCK_SIZE)
        best = blocks.argmax(axis=1)
        local_max[rows] = blocks[np.arange(len(best)), best].reshape(size, num_blocks)
        np.add(best.reshape(size, num_blocks), first_token, out=local_argmax[rows])


def _store_logits(
    cache: Tensor, columns: Tensor, source: Tensor, req: np.ndarray, is_valid: np.ndarray
) -> None:
    """Keep the logits before temperature for a later verification of drafts."""
    kept = torch.from_numpy(is_valid.nonzero()[0])
    column = columns.expand(len(req))[kept].long()
    cache[torch.from_numpy(req)[kept].long(), column, : source.shape[1]] = source[kept]


def _scramble(key: np.ndarray) -> np.ndarray:
    """Return the part of a murmur3 round that does not depend on the running hash."""
    key = key * np.uint32(0xCC9E2D51)
    key = (key << np.uint32(15)) | (key >> np.uint32(17))
    return key * np.uint32(0x1B873593)


@lru_cache(maxsize=8)
def _token_keys(vocab_size: int) -> np.ndarray:
    """Return the scrambled key of every token id: the same in every row and step."""
    keys = _scramble(np.arange(vocab_size, dtype=np.uint32))
    keys.flags.writeable = False
    return keys


def _mix(h: np.ndarray) -> np.ndarray:
    """Finish a murmur3 round in place on the running hash xor a scrambled key."""
    spare = h >> np.uint32(19)
    h <<= np.uint32(13)
    h |= spare
    h *= np.uint32(5)
    h += np.uint32(0xE6546B64)
    return h


def _hash(seeds: np.ndarray, positions: np.ndarray, vocab_size: int, domain: int) -> np.ndarray:
    """Return murmur3 of (seed, position, token id) as ``[num_rows, vocab_size]`` of uint32."""
    words = np.empty((3, len(seeds)), np.uint32)
    words[:2] = np.ascontiguousarray(seeds).view(np.uint32).reshape(-1, 2).T
    words[2] = positions.astype(np.uint32)
    low, high, position = _scramble(words)
    prefix = _mix(_mix(_mix(low ^ np.uint32(domain)) ^ high) ^ position)

    h = _mix(_token_keys(vocab_size) ^ prefix[:, None])
    spare = np.empty_like(h)
    h ^= np.uint32(16)
    h ^= np.right_shift(h, np.uint32(16), out=spare)
    h *= np.uint32(0x85EBCA6B)
    h ^= np.right_shift(h, np.uint32(13), out=spare)
    h *= np.uint32(0xC2B2AE35)
    h ^= np.right_shift(h, np.uint32(16), out=spare)
    return h


def _noise32(seeds: np.ndarray, positions: np.ndarray, vocab_size: int) -> np.ndarray:
    """Return ``-log(-log1p(-u))`` in float32, u being uniform on (0, 1)."""
    # The kernel adds two exact halves, that is it rounds (hash + 0.5) * 2**-32 once.
    exact = _hash(seeds, positions, vocab_size, 0).astype(np.float64)
    exact += 0.5
    exact *= 2.0**-32
    u = exact.astype(np.float32)

    # -log1p(-u): a series for the small u that make the large noise, the logarithm elsewhere.
    series = u * np.float32(1 / 8)
    for denominator in (7, 6, 5, 4, 3, 2):
        series += np.float32(1 / denominator)
        series *= u
    series += np.float32(1)
    series *= u
    direct = np.subtract(np.float32(1), u)
    np.maximum(direct, _TINY, out=direct)
    np.log(direct, out=direct)
    np.negative(direct, out=direct)
    np.copyto(direct, series, where=u < np.float32(0.25))
    np.log(direct, out=direct)
    return np.negative(direct, out=direct)


def _noise64(seeds: np.ndarray, positions: np.ndarray, vocab_size: int) -> np.ndarray:
    """Return ``-log(-log(u))`` in float64 from 53 random bits."""
    bits = _hash(seeds, positions, vocab_size, _HIGH_WORD_DOMAIN).astype(np.uint64)
    bits <<= np.uint64(32)
    bits |= _hash(seeds, positions, vocab_size, 0)
    bits >>= np.uint64(11)
    u = bits.astype(np.float64)
    u += 0.5
    u *= 2.0**-53
    u[u == 1.0] = 1.0 - 2.0**-53  # the largest midpoint rounds up
    np.log(u, out=u)
    np.negative(u, out=u)
    np.log(u, out=u)
    return np.negative(u, out=u)
