"""NumPy views of memory that vLLM hands over as bare addresses.

The runner keeps one block table per KV cache group and passes them to its kernels as tensors of
``uint64`` pointers. A pointer says nothing about the extent, so a view made here has as many rows
as fit into an impossibly large allocation: like the Triton kernel, the caller must index inside the
real one. Views do not own the memory.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_UNKNOWN_EXTENT = 1 << 38  # elements; far above any allocation, far below what overflows an index


class _Int32Rows:
    """Carrier of the array interface of rows of int32 at an address."""

    def __init__(self, address: int, row_stride: int) -> None:
        self.__array_interface__ = {
            "data": (address, False),
            "shape": (_UNKNOWN_EXTENT // row_stride, row_stride),
            "typestr": np.dtype(np.int32).str,
            "version": 3,
        }


@lru_cache(maxsize=256)
def int32_rows(address: int, row_stride: int) -> np.ndarray:
    """Return int32 memory at `address` as ``[unknown, row_stride]``.

    Cached because making a view costs more than the gather it serves; an entry is arithmetic on an
    address, so it stays right when the allocator reuses the address.
    """
    return np.asarray(_Int32Rows(address, row_stride))
