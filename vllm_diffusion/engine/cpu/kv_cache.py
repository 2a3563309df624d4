"""Clearing of KV cache pages."""

from __future__ import annotations

import ctypes
from typing import Any

from torch import Tensor

_BYTES_PER_ELEMENT = 4


def zero_kv_blocks(
    seg_addrs_ptr: Tensor,
    seg_block_strides_ptr: Tensor,
    seg_page_sizes_ptr: Tensor,
    block_ids_ptr: Tensor,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``v1.worker.utils._zero_kv_blocks_kernel``: strides and sizes count int32 elements.

    Loops over segments (one or two per layer) and blocks: every page is one memset of many
    kilobytes, next to which the loop costs nothing.
    """
    block_ids = block_ids_ptr.tolist()
    segments = zip(
        seg_addrs_ptr.tolist(),
        seg_block_strides_ptr.tolist(),
        seg_page_sizes_ptr.tolist(),
        strict=True,
    )
    for address, stride, page_size in segments:
        for block in block_ids:
            ctypes.memset(
                address + block * stride * _BYTES_PER_ELEMENT, 0, page_size * _BYTES_PER_ELEMENT
            )
