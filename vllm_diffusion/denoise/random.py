"""Draws that depend on (seed, position, step, token) and on nothing else.

A counter-based generator: no state, so a request gets the same draws alone, in
any batch, in any slot and on any tensor-parallel rank.

Shape suffixes: N rows (canvas positions), V vocabulary.
"""

import torch
from torch import Tensor


def _signed(word: int) -> int:
    """The int64 with the bits of the unsigned 64-bit ``word``."""
    return word - (1 << 64) if word >= 1 << 63 else word


# The increment and the two multipliers of SplitMix64 (Steele, Lea, Flood 2014).
_GAMMA = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's own keeps the sign of an int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, whose products wrap as they should."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def key_of(seed: Tensor, position: Tensor, step: Tensor) -> Tensor:
    """One key for each (seed, position, step); the shapes broadcast."""
    return mix(mix(mix(seed + _GAMMA) + position) + step)


def _open_uniform(bits: Tensor) -> Tensor:
    """float32 in (0, 1): 23 bits, so that with the half, which keeps 0 and 1 out, it is exact."""
    return (_shift_right(bits, 41).float() + 0.5) * 2.0**-23


def uniform(seed: Tensor, position: Tensor, step: Tensor) -> Tensor:
    """Uniform draws in (0, 1), float32; the int64 arguments broadcast to the answer's shape."""
    return _open_uniform(mix(key_of(seed, position, step)))


def gumbel(seed_N: Tensor, position_N: Tensor, step_N: Tensor, vocab_size: int) -> Tensor:
    """Standard Gumbel noise, float32 (N, V).

    Args:
        seed_N: int64 (N,), the request's seed.
        position_N: int64 (N,), absolute position of the token.
        step_N: int64 (N,), denoising step of its block.
        vocab_size: V.
    """
    key_N = key_of(seed_N, position_N, step_N)
    # Token 0 is number 1: number 0 is the draw of ``uniform``.
    token_V = torch.arange(vocab_size, device=seed_N.device, dtype=torch.int64)
    bits_NV = mix(key_N[:, None] + (token_V + 1) * _GAMMA)
    return -torch.log(-torch.log(_open_uniform(bits_NV)))
