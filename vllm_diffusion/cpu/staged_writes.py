"""Staged writes: the scheduler's per-request changes, scattered into the runner's state tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vllm_diffusion.cpu.memory import int32_rows
from vllm_diffusion.cpu.ragged import copy_segments


def apply_write(
    output_ptr: Tensor,
    output_stride: int | Tensor,
    write_indices_ptr: Tensor,
    write_starts_ptr: Tensor,
    write_contents_ptr: Tensor,
    write_cu_lens_ptr: Tensor,
    write_group_ids_ptr: Tensor | None,
    BLOCK_SIZE: int,
    MULTI_GROUP: bool,
    **_: Any,
) -> None:
    """Replace ``buffer_utils._apply_write_kernel``.

    Write i goes to row ``indices[i]`` from column ``starts[i]`` on. When two staged writes overlap
    the later one wins (Triton leaves the order open).
    """
    rows = write_indices_ptr.numpy()
    columns = write_starts_ptr.numpy()
    ends = write_cu_lens_ptr.numpy()
    contents = write_contents_ptr.numpy()
    lens = ends.copy()
    lens[1:] -= ends[:-1]
    if MULTI_GROUP:
        assert isinstance(output_stride, Tensor)
        assert write_group_ids_ptr is not None
        _write_groups(
            output_ptr, output_stride, write_group_ids_ptr, rows, columns, contents, ends, lens
        )
        return
    flat = output_ptr.view(-1).numpy()
    starts = rows.astype(np.int64) * output_stride + columns
    if ends[-1] == len(ends):
        flat[starts] = contents
    else:
        copy_segments(flat, starts, contents, ends - lens, lens)


def _write_groups(
    pointers: Tensor,
    strides: Tensor,
    group_ids: Tensor,
    rows: np.ndarray,
    columns: np.ndarray,
    contents: np.ndarray,
    ends: np.ndarray,
    lens: np.ndarray,
) -> None:
    """Write to several block tables given by address. Loops over writes: a request stages one per
    group, and only when it is admitted or grows by a block."""
    addresses = pointers.tolist()
    row_strides = strides.tolist()
    writes = zip(
        group_ids.tolist(),
        rows.tolist(),
        columns.tolist(),
        ends.tolist(),
        lens.tolist(),
        strict=True,
    )
    for group, row, column, end, length in writes:
        table = int32_rows(addresses[group], row_strides[group])
        table[row, column : column + length] = contents[end - length : end]
