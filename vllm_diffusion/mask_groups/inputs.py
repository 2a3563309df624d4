"""Corrections to the inputs that the runner has prepared, on the device.

The runner fills a query with prompt tokens, and the canvas into its last
positions. Shape suffixes: S slots, R requests, L canvas length, N tokens of the
batch, K rows of logits.
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
    def positions_N(self) -> Tensor:
        positions: Tensor = self.batch.positions[: self.batch.num_tokens]
        return positions

    def history(self) -> tuple[Tensor, Tensor, Tensor]:
        """Slot (N,), known-token count of the slot (N,) and the request's token there (N,)."""
        view = self.view
        slot_N = self.to_device(np.repeat(view.slot_R, view.end_R - view.start_R))
        tokens_SP = self.states.all_token_ids.gpu
        history_N = tokens_SP[slot_N, self.positions_N.clamp(max=tokens_SP.shape[1] - 1)]
        return slot_N, self.states.total_len.gpu[slot_N], history_N

    def put(self, input_ids_N: Tensor) -> None:
        """Let the forward read these tokens."""
        self.batch.input_ids[: self.batch.num_tokens].copy_(input_ids_N)

    def rows_before_canvas(self, shift: int) -> Tensor:
        """Rows (K,) of a query that ends with its canvas: ``shift`` before its positions.

        A seed is read off the row before its position, whatever the shift.
        """
        view, rows_K = self.view, self.batch.logits_indices
        if shift:
            shift_R = np.full_like(view.num_rows_R, shift)
        elif view.is_seed_R is not None and view.is_seed_R.any():
            shift_R = view.is_seed_R.astype(np.int64)
        else:
            unchanged: Tensor = rows_K
            return unchanged
        shift_K = self.to_device(np.repeat(shift_R, view.num_rows_R))
        shifted: Tensor = rows_K - shift_K.to(rows_K.dtype)
        return shifted


def fill_finished_blocks(inputs: Inputs) -> None:
    """Put the tokens of just finished blocks, which are in the requests' histories alone."""
    known_R = inputs.view.known_R
    is_known_R = known_R > inputs.view.start_R
    if not (is_known_R & (known_R > inputs.batch.prefill_len_np[: len(known_R)])).any():
        return
    _, total_N, history_N = inputs.history()
    input_ids_N = inputs.batch.input_ids[: inputs.batch.num_tokens]
    inputs.put(torch.where(inputs.positions_N < total_N, history_N, input_ids_N))


def move_second_sequences(inputs: Inputs, offset: NDArray[np.int64]) -> Tensor:
    """Let the unconditional sequences start at position 0; bool (N,), their tokens.

    After the runner has read the slots of K and V off the positions.
    """
    offset_N = inputs.to_device(offset)
    inputs.batch.positions[: inputs.batch.num_tokens] -= offset_N
    return offset_N > 0


def fill_whole_sequence(inputs: Inputs, hides_prompt_N: Tensor | None = None) -> None:
    """Known tokens, then the canvas, then masks: what a full-attention model reads.

    ``hides_prompt_N`` (bool) marks tokens of sequences whose prompt is masked.
    """
    canvas = inputs.canvas
    slot_N, total_N, history_N = inputs.history()
    position_N = inputs.positions_N
    if hides_prompt_N is not None:
        prompt_N = inputs.states.prompt_len.gpu[slot_N]
        history_N = torch.where(hides_prompt_N & (position_N < prompt_N), canvas.mask_id, history_N)
    length = canvas.tokens_SL.shape[1]
    offset_N = position_N - total_N
    canvas_N = canvas.tokens_SL[slot_N, offset_N.clamp(0, length - 1)]
    # Behind the canvas's own block its tokens are masks as well.
    unknown_N = torch.where(offset_N < length, canvas_N, canvas.mask_id)
    inputs.put(torch.where(offset_N < 0, history_N, unknown_N))


def inner_rows(inputs: Inputs, shift: int) -> Tensor:
    """Rows (K,) of the hidden states for canvases that masks follow in the query."""
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
    slot_K, base_K = inputs.to_device(host_np)
    rows_K: Tensor = inputs.states.total_len.gpu[slot_K] + base_K
    return rows_K
