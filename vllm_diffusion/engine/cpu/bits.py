"""Bit masks over the vocabulary: little-endian, one bit per token."""

from __future__ import annotations

import numpy as np


def set_bits(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row and token of every set bit of ``[num_rows, num_bytes]``, in order.

    Empty bytes are skipped before anything is unpacked: masks are mostly empty, and `nonzero` over
    a whole vocabulary is the slowest operation NumPy has here.
    """
    row, byte = packed.nonzero()
    bits = np.unpackbits(packed[row, byte][:, None], axis=1, bitorder="little")
    owner, bit = bits.view(np.bool_).nonzero()
    return row[owner], byte[owner] * 8 + bit
