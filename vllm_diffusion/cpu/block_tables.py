"""Block tables: which KV pages a batch uses, and the slot every new token is written to."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vllm_diffusion.cpu.memory import int32_rows
from vllm_diffusion.cpu.ragged import steps


def gather_block_tables(
    batch_idx_to_req_idx: Tensor,
    src_block_table_ptrs: Tensor,
    dst_block_table_ptrs: Tensor,
    block_table_strides: Tensor,
    num_blocks_ptr: Tensor,
    num_blocks_stride: int,
    num_reqs: int,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``block_table._gather_block_tables_kernel`` of vLLM 0.32: rows in batch order.

    Rows are copied up to the longest request of the batch; entries past a request's own block count
    are unspecified with Triton too. The padding rows Triton clears are not known here (the
    dispatcher drops the launch grid) and not read either: they serve CUDA graphs.
    """
    if num_reqs == 0:
        return
    # A dummy (index -1) gets any row; counted from the end, its row would lie outside all memory.
    req = np.maximum(batch_idx_to_req_idx.numpy(), 0)
    num_blocks = num_blocks_ptr.numpy()
    tables = zip(
        src_block_table_ptrs.tolist(),
        dst_block_table_ptrs.tolist(),
        block_table_strides.tolist(),
        num_blocks,
        strict=True,
    )
    # One KV cache group, or a few for hybrid models.
    for src, dst, stride, group_num_blocks in tables:
        width = max(group_num_blocks[req].tolist())
        int32_rows(dst, stride)[:num_reqs, :width] = int32_rows(src, stride)[:, :width][req]


def gather_and_mask_block_tables(
    batch_idx_to_req_idx: Tensor,
    src_block_table_ptrs: Tensor,
    dst_block_table_ptrs: Tensor,
    block_table_strides: Tensor,
    num_blocks_ptr: Tensor,
    num_blocks_stride: int,
    num_reqs: int,
    num_computed_tokens_ptr: Tensor,
    sliding_window_reach_ptr: Tensor,
    block_sizes_ptr: Tensor,
    MASK_SLIDING_WINDOW: bool,
    BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``block_table._gather_block_tables_kernel`` of vLLM 0.33.

    As above; and where a group has a sliding window, pages that end below the window of the
    request's first new token are the null page: they may be another request's by now.
    """
    gather_block_tables(
        batch_idx_to_req_idx,
        src_block_table_ptrs,
        dst_block_table_ptrs,
        block_table_strides,
        num_blocks_ptr,
        num_blocks_stride,
        num_reqs,
        BLOCK_SIZE,
    )
    if num_reqs == 0 or not MASK_SLIDING_WINDOW:
        return
    req = np.maximum(batch_idx_to_req_idx.numpy(), 0)
    first_pos = num_computed_tokens_ptr.numpy()[req]
    groups = zip(
        dst_block_table_ptrs.tolist(),
        block_table_strides.tolist(),
        num_blocks_ptr.numpy(),
        sliding_window_reach_ptr.tolist(),
        block_sizes_ptr.tolist(),
        strict=True,
    )
    for dst, stride, group_num_blocks, reach, block_size in groups:
        if reach <= 0:
            continue
        num_null = np.maximum(first_pos - reach, 0) // block_size
        np.minimum(num_null, group_num_blocks[req], out=num_null)
        width = max(num_null.tolist())
        is_null = steps(width) < num_null[:, None]
        int32_rows(dst, stride)[:num_reqs, :width][is_null] = 0


def compute_slot_mappings(
    max_num_tokens: int,
    idx_mapping: Tensor,
    query_start_loc: Tensor,
    pos: Tensor,
    block_table_ptrs: Tensor,
    block_table_strides: Tensor,
    block_sizes: Tensor,
    slot_mapping_enabled: Tensor,
    dcp_sharded: Tensor,
    slot_mappings_ptr: Tensor,
    slot_mappings_stride: int,
    cp_rank: int,
    CP_SIZE: int,
    CP_INTERLEAVE: int,
    PAD_ID: int,
    TRITON_BLOCK_SIZE: int,
    **_: Any,
) -> None:
    """Replace ``block_table._compute_slot_mappings_kernel``.

    ``slot = block_table[req, position // block_size] * block_size + position % block_size``;
    `PAD_ID` for dummy requests (index -1), disabled groups, positions of another context-parallel
    rank, and everything past the batch.
    """
    req = idx_mapping.numpy()
    num_reqs = len(req)
    starts = query_start_loc.numpy()[: num_reqs + 1]
    total = int(starts[num_reqs])
    slots = slot_mappings_ptr.numpy()
    slots[:, total:max_num_tokens] = PAD_ID
    if total == 0:
        return
    positions = pos.numpy()[:total]
    rows = req if total == num_reqs else req.repeat(starts[1:] - starts[:-1])
    is_dummy = None
    if np.count_nonzero(req < 0):
        is_dummy = rows < 0
        rows = np.where(is_dummy, 0, rows)
    groups = zip(
        block_table_ptrs.tolist(),
        block_table_strides.tolist(),
        block_sizes.tolist(),
        slot_mapping_enabled.tolist(),
        dcp_sharded.tolist() if CP_SIZE != 1 else [False] * len(slots),
        slots,
        strict=True,
    )
    for address, stride, block_size, enabled, sharded, group_slots in groups:
        out = group_slots[:total]
        if not enabled:
            out[:] = PAD_ID
            continue
        is_local = None
        local = positions
        if sharded:
            local, is_local = _local_positions(
                positions, block_size, cp_rank, CP_SIZE, CP_INTERLEAVE
            )
        blocks = local // block_size
        table = int32_rows(address, stride)
        if is_local is not None:
            # A foreign position may lie past this rank's shorter table: never load it.
            blocks[~is_local] = 0
        numbers = table[rows, blocks]
        # number * block_size + local % block_size, without the slow integer remainder.
        np.subtract(numbers, blocks, out=blocks)
        blocks *= block_size
        np.add(blocks, local, out=out)
        if is_local is not None:
            out[~is_local] = PAD_ID
        if is_dummy is not None:
            out[is_dummy] = PAD_ID


def _local_positions(
    positions: np.ndarray, block_size: int, cp_rank: int, cp_size: int, interleave: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions inside this rank's share of the context, and which positions it owns."""
    virtual_blocks, offsets = np.divmod(positions, block_size * cp_size)
    is_local = offsets // interleave % cp_size == cp_rank
    rounds = offsets // (interleave * cp_size)
    return virtual_blocks * block_size + rounds * interleave + offsets % interleave, is_local
