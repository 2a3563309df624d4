"""Corrections to the inputs that the runner has prepared, on the device.

The runner fills a query with prompt tokens, and the canvas into its last
positions. Shape suffixes: S slots, R requests, L canvas length, T tokens of the
batch, N rows of logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vllm_diffusion.denoise.canvas import Canvas
from vllm_diffusion.mask_groups.view import BatchView

if TYPE_CHECKING:
    from vllm_diffusion.batch.slots import RequestParams


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a forward reads, and what is known of its requests."""

    batch: Any
    """The runner's ``InputBatch``; its token ids and positions are corrected in place."""
    states: Any
    """The runner's ``RequestState``."""
    view: BatchView
    params: RequestParams
    canvas: Canvas
    to_device: Callable[[NDArray[np.int64]], Tensor]
    """Copies from the host, without waiting."""

    @property
    def positions_T(self) -> Tensor:
        positions: Tensor = self.batch.positions[: self.batch.num_tokens]
        return positions

    def history(self) -> tuple[Tensor, Tensor, Tensor]:
        """Slot (T,), known-token count of the slot (T,) and the request's token there (T,)."""
        view = self.view
        slot_T = self.to_device(np.repeat(view.slot_R, view.end_R - view.start_R))
        tokens_SP = self.states.all_token_ids.gpu
        history_T = tokens_SP[slot_T, self.positions_T.clamp(max=tokens_SP.shape[1] - 1)]
        return slot_T, self.states.total_len.gpu[slot_T], history_T

    def put(self, input_ids_T: Tensor) -> None:
        """Let the forward read these tokens."""
        self.batch.input_ids[: self.batch.num_tokens].copy_(input_ids_T)

    def rows_before_canvas(self, shift: int) -> Tensor:
        """Rows (N,) of a query that ends with its canvas: ``shift`` before its positions.

        A seed is read off the row before its position, whatever the shift.
        """
        view, rows_N = self.view, self.batch.logits_indices
        if shift:
            shift_R = np.full_like(view.num_rows_R, shift)
        elif view.is_seed_R is not None and view.is_seed_R.any():
            shift_R = view.is_seed_R.astype(np.int64)
        else:
            unchanged: Tensor = rows_N
            return unchanged
        shift_N = self.to_device(np.repeat(shift_R, view.num_rows_R))
        shifted: Tensor = rows_N - shift_N.to(rows_N.dtype)
        return shifted


def fill_finished_blocks(inputs: Inputs) -> None:
    """Put the tokens of just finished blocks, which are in the requests' histories alone."""
    known_R = inputs.view.known_R
    is_known_R = known_R > inputs.view.start_R
    if not (is_known_R & (known_R > inputs.batch.prefill_len_np[: len(known_R)])).any():
        return
    _, total_T, history_T = inputs.history()
    input_ids_T = inputs.batch.input_ids[: inputs.batch.num_tokens]
    inputs.put(torch.where(inputs.positions_T < total_T, history_T, input_ids_T))


def move_second_sequences(inputs: Inputs, offset: NDArray[np.int64]) -> Tensor:
    """Let the unconditional sequences start at position 0; bool (T,), their tokens.

    After the runner has read the slots of K and V off the positions.
    """
    offset_T = inputs.to_device(offset)
    inputs.batch.positions[: inputs.batch.num_tokens] -= offset_T
    return offset_T > 0


def fill_whole_sequence(inputs: Inputs, hides_prompt_T: Tensor | None = None) -> None:
    """Known tokens, then the canvas, then masks and held tokens: what a full-attention model reads.

    ``hides_prompt_T`` (bool) marks tokens of sequences whose prompt is masked.
    """
    canvas = inputs.canvas
    slot_T, total_T, history_T = inputs.history()
    position_T = inputs.positions_T
    if hides_prompt_T is not None:
        prompt_T = inputs.states.prompt_len.gpu[slot_T]
        history_T = torch.where(hides_prompt_T & (position_T < prompt_T), canvas.mask_id, history_T)
    length = canvas.tokens_SL.shape[1]
    offset_T = position_T - total_T
    canvas_T = canvas.tokens_SL[slot_T, offset_T.clamp(0, length - 1)]
    # Behind the canvas's own block its tokens are masks as well, but for what is held.
    behind_T: Tensor | int = canvas.mask_id
    laid = inputs.params.laid
    if laid.are_asked(inputs.view.slot_R):
        behind_T = laid.pinned_at(slot_T, position_T - inputs.states.prompt_len.gpu[slot_T])
    unknown_T = torch.where(offset_T < length, canvas_T, behind_T)
    inputs.put(torch.where(offset_T < 0, history_T, unknown_T))


def inner_rows(inputs: Inputs, shift: int) -> Tensor:
    """Rows (N,) of the hidden states for canvases that masks follow in the query."""
    view = inputs.view
    request_np = np.repeat(np.arange(len(view.num_rows_R)), view.num_rows_R)
    first_np = np.repeat(np.cumsum(view.num_rows_R) - view.num_rows_R, view.num_rows_R)
    # All but the known tokens' number, which the device has.
    base_np = (
        view.query_start_loc[request_np]
        - view.start_R[request_np]
        + (np.arange(len(request_np)) - first_np)
        - shift
    )
    host_np = np.stack((view.slot_R[request_np], base_np)).astype(np.int64)
    slot_N, base_N = inputs.to_device(host_np)
    rows_N: Tensor = inputs.states.total_len.gpu[slot_N] + base_N
    return rows_N
