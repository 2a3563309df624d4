"""Counter-based Gumbel noise.

The noise of a token is a murmur3 hash of (seed, position, token id), so a draw depends neither on
the batch nor on the rank. Every operation is that of vLLM's Triton kernels, in the same order and
precision: results are equal bit for bit wherever Triton's logarithm is NumPy's.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_HIGH_WORD_DOMAIN = 0x9E3779B9
_TINY = np.float32(5.960464477539063e-08)


class Noise32:
    """``-log(-log1p(-u))`` in float32, u uniform on (0, 1) from 32 random bits."""

    def __init__(self, seeds: np.ndarray, positions: np.ndarray) -> None:
        self._prefix = _prefix(seeds, positions, 0)

    def tile(self, rows: np.ndarray, first: int, last: int) -> np.ndarray:
        # The kernel adds two exact halves, that is it rounds (hash + 0.5) * 2**-32 once.
        exact = _hash(self._prefix[rows], first, last).astype(np.float64)
        exact += 0.5
        exact *= 2.0**-32
        u = exact.astype(np.float32)

        # -log1p(-u): a series for the small u that make the large noise, else the logarithm.
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
        noise = np.where(u < np.float32(0.25), series, direct)
        np.log(noise, out=noise)
        np.negative(noise, out=noise)
        return noise


class Noise64:
    """``-log(-log(u))`` in float64, u uniform on (0, 1) from 53 random bits."""

    def __init__(self, seeds: np.ndarray, positions: np.ndarray) -> None:
        self._low = _prefix(seeds, positions, 0)
        self._high = _prefix(seeds, positions, _HIGH_WORD_DOMAIN)

    def tile(self, rows: np.ndarray, first: int, last: int) -> np.ndarray:
        bits = _hash(self._high[rows], first, last).astype(np.uint64)
        bits <<= np.uint64(32)
        bits |= _hash(self._low[rows], first, last)
        bits >>= np.uint64(11)
        u = bits.astype(np.float64)
        u += 0.5
        u *= 2.0**-53
        u[u == 1.0] = 1.0 - 2.0**-53  # the largest midpoint rounds up
        np.log(u, out=u)
        np.negative(u, out=u)
        np.log(u, out=u)
        np.negative(u, out=u)
        return u


def _scramble(key: np.ndarray) -> np.ndarray:
    """Return the part of a murmur3 round that does not depend on the running hash."""
    key = key * np.uint32(0xCC9E2D51)
    key = (key << np.uint32(15)) | (key >> np.uint32(17))
    return key * np.uint32(0x1B873593)


@lru_cache(maxsize=64)
def _token_keys(first: int, last: int) -> np.ndarray:
    """Return the scrambled keys of the token ids of a tile: the same in every row and step."""
    keys = _scramble(np.arange(first, last, dtype=np.uint32))
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


def _prefix(seeds: np.ndarray, positions: np.ndarray, domain: int) -> np.ndarray:
    """Return the murmur3 state after seed and position, ``[num_rows, 1]``."""
    words = np.empty((3, len(seeds)), np.uint32)
    words[:2] = np.ascontiguousarray(seeds).view(np.uint32).reshape(-1, 2).T
    words[2] = positions.astype(np.uint32)
    low, high, position = _scramble(words)
    return _mix(_mix(_mix(low ^ np.uint32(domain)) ^ high) ^ position)[:, None]


def _hash(prefix: np.ndarray, first: int, last: int) -> np.ndarray:
    """Return the hashes of the token ids of a tile, ``[num_rows, last - first]`` of uint32."""
    h = _mix(prefix ^ _token_keys(first, last))
    h ^= np.uint32(16)
    spare = h >> np.uint32(16)
    h ^= spare
    h *= np.uint32(0x85EBCA6B)
    h ^= np.right_shift(h, np.uint32(13), out=spare)
    h *= np.uint32(0xC2B2AE35)
    h ^= np.right_shift(h, np.uint32(16), out=spare)
    return h
