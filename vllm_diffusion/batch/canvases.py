"""The canvases of a step: which slots, which rows of the logits, how wide.

All of it on the host; ``to_device`` copies it at once, for a step in torch. Shape suffixes: S
slots, R requests in the batch, B of them with a canvas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vllm_diffusion.batch.device import to_device
from vllm_diffusion.batch.slots import RequestParams
from vllm_diffusion.mask_groups.base import MaskGroup
from vllm_diffusion.mask_groups.view import BatchView
from vllm_diffusion.request.plan import DecodePlan

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLAGS = ("is_seed_B", "is_draft_B", "is_verify_B", "caches_B")


@dataclass(frozen=True, slots=True)
class Canvases:
    """int64 (B,) on the host where not said otherwise."""

    columns_7B: NDArray[np.int64]
    """The seven below, in their order and in one piece."""
    request_B: NDArray[np.int64]
    """Index in the runner's batch."""
    slot_B: NDArray[np.int64]
    row_start_B: NDArray[np.int64]
    """First row of the logits."""
    width_B: NDArray[np.int64]
    """Canvas positions that exist; more than rows when the step only makes the seed."""
    block_length_B: NDArray[np.int64]
    num_rows_B: NDArray[np.int64]
    end_B: NDArray[np.int64]
    """End of the query."""
    is_seed_B: NDArray[np.bool_] | None = None
    is_draft_B: NDArray[np.bool_] | None = None
    is_verify_B: NDArray[np.bool_] | None = None
    caches_B: NDArray[np.bool_] | None = None
    """The request takes an approximate cache."""

    def to_device(self, total_len_S: Tensor) -> CanvasTensors:
        """Copy to the device of ``total_len_S``, the known tokens of all slots."""
        flags = {name: flag for name in FLAGS if (flag := getattr(self, name)) is not None}
        host = self.columns_7B
        if flags:
            host = np.concatenate((host, np.array([*flags.values()], dtype=np.int64)))
        rows = to_device(host, total_len_S.device).unbind(0)
        request_B, slot_B, row_start_B, width_B, block_length_B, num_rows_B, end_B = rows[:7]
        return CanvasTensors(
            host=self,
            request_B=request_B,
            slot_B=slot_B,
            row_start_B=row_start_B,
            width_B=width_B,
            block_length_B=block_length_B,
            num_rows_B=num_rows_B,
            end_B=end_B,
            total_len_B=total_len_S[slot_B].long(),
            **{name: row.bool() for name, row in zip(flags, rows[7:], strict=True)},
        )


@dataclass(frozen=True, slots=True)
class CanvasTensors:
    """``Canvases`` on the device; int64 and bool (B,)."""

    host: Canvases
    request_B: Tensor
    slot_B: Tensor
    row_start_B: Tensor
    width_B: Tensor
    block_length_B: Tensor
    num_rows_B: Tensor
    end_B: Tensor
    total_len_B: Tensor
    """Known tokens, N."""
    is_seed_B: Tensor | None = None
    is_draft_B: Tensor | None = None
    is_verify_B: Tensor | None = None
    caches_B: Tensor | None = None

    def num_rejected(self, mask_group: MaskGroup, num_emitted_B: Tensor) -> Tensor:
        """What the runner takes back of the query, int64 (B,)."""
        resume_B: Tensor = mask_group.resume(
            self.total_len_B,
            self.block_length_B,
            emitted=num_emitted_B,
            is_verify=False if self.is_verify_B is None else self.is_verify_B,
            keeps_cache=False if self.caches_B is None else self.caches_B,
        )
        return self.end_B - resume_B


def rows_of(batch: Canvases, is_picked_B: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rows of logits of some canvases, int64 (4, P), on the host.

    Which of the picked canvases, the canvas position that has the row, the row, the slot.
    """
    num_rows = batch.num_rows_B[is_picked_B]
    picked = np.repeat(np.arange(len(num_rows)), num_rows)
    offset = np.arange(len(picked)) - np.repeat(np.cumsum(num_rows) - num_rows, num_rows)
    row_start, slot = batch.row_start_B[is_picked_B], batch.slot_B[is_picked_B]
    return np.stack((picked, offset, row_start[picked] + offset, slot[picked]))


def canvases_of(
    view: BatchView,
    cu_num_logits: NDArray[np.int32],
    params: RequestParams,
    plan: DecodePlan,
    max_model_len: int,
) -> Canvases:
    """Pick the requests of the batch that have a canvas.

    Args:
        view: of the batch.
        cu_num_logits: int32 (R + 1,), borders of the requests' rows of logits.
        params: of all slots.
        plan: how the model is decoded.
        max_model_len: of the engine.
    """
    request = view.num_rows_R.nonzero()[0]
    slot, num_rows, end = view.slot_R[request], view.num_rows_R[request], view.end_R[request]
    width, block_length = num_rows, params.block_length.np[slot]
    flags = {
        f"{name}_B": value[request]
        for name in ("is_seed", "is_draft", "is_verify")
        if (value := getattr(view, f"{name}_R")) is not None
    }
    if "is_seed_B" in flags:
        whole = np.minimum(block_length, max_model_len - (end - num_rows))
        width = np.where(flags["is_seed_B"], whole, width)
    if plan.record.mask_group.recomputes:
        flags["caches_B"] = params.keeps_cache[slot]
    columns_7B = np.array(
        (request, slot, cu_num_logits[request], width, block_length, num_rows, end), dtype=np.int64
    )
    return Canvases(
        columns_7B,
        request_B=columns_7B[0],
        slot_B=columns_7B[1],
        row_start_B=columns_7B[2],
        width_B=columns_7B[3],
        block_length_B=columns_7B[4],
        num_rows_B=columns_7B[5],
        end_B=columns_7B[6],
        **flags,
    )
