"""Corrections to the inputs that the runner has prepared, on the device.

The runner fills a query with prompt tokens, and the canvas into its last
positions. Shape suffixes: S slots, L canvas length, N tokens of the batch, K
rows of logits.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.states import RequestState

from vllm_diffusion.batch.view import BatchView
from vllm_diffusion.denoise.canvas import Canvas


def _slots_and_history(
    input_batch: InputBatch, req_states: RequestState, view: BatchView
) -> tuple[Tensor, Tensor, Tensor]:
    """Slot (N,), known-token count of the slot (N,) and the request's token there (N,)."""
    num_tokens = input_batch.num_tokens
    slot_np = np.repeat(view.slot_R, view.end_R - view.start_R)
    slot_N = async_tensor_h2d(slot_np, device=input_batch.input_ids.device)
    position_N = input_batch.positions[:num_tokens]
    tokens_SP = req_states.all_token_ids.gpu
    history_N = tokens_SP[slot_N, position_N.clamp(max=tokens_SP.shape[1] - 1)]
    return slot_N, req_states.total_len.gpu[slot_N], history_N


def fill_finished_block(input_batch: InputBatch, req_states: RequestState, view: BatchView) -> None:
    """Put the tokens of just finished blocks, which are in the requests' histories alone."""
    is_known_R = view.known_R > view.start_R
    if not (is_known_R & (view.known_R > input_batch.prefill_len_np[: len(is_known_R)])).any():
        return
    _, total_N, history_N = _slots_and_history(input_batch, req_states, view)
    num_tokens = input_batch.num_tokens
    is_known_N = input_batch.positions[:num_tokens] < total_N
    input_ids_N = input_batch.input_ids[:num_tokens]
    input_ids_N.copy_(torch.where(is_known_N, history_N, input_ids_N))


def move_second_sequences(input_batch: InputBatch, offset: np.ndarray) -> Tensor:
    """Let the unconditional sequences start at position 0; bool (N,), their tokens.

    After the runner has read the slots of K and V off the positions.
    """
    offset_N = async_tensor_h2d(offset, device=input_batch.positions.device)
    input_batch.positions[: input_batch.num_tokens] -= offset_N
    return offset_N > 0


def fill_whole_sequence(
    input_batch: InputBatch,
    req_states: RequestState,
    view: BatchView,
    canvas: Canvas,
    hides_prompt_N: Tensor | None = None,
) -> None:
    """Known tokens, then the canvas, then masks: what a full-attention model reads.

    ``hides_prompt_N`` (bool) marks tokens of sequences whose prompt is masked.
    """
    slot_N, total_N, history_N = _slots_and_history(input_batch, req_states, view)
    if hides_prompt_N is not None:
        prompt_N = req_states.prompt_len.gpu[slot_N]
        is_hidden_N = hides_prompt_N & (input_batch.positions[: input_batch.num_tokens] < prompt_N)
        history_N = torch.where(is_hidden_N, canvas.mask_id, history_N)
    position_N = input_batch.positions[: input_batch.num_tokens]
    length = canvas.tokens_SL.shape[1]
    offset_N = position_N - total_N
    canvas_N = canvas.tokens_SL[slot_N, offset_N.clamp(0, length - 1)]
    # Behind the canvas's own block its tokens are masks as well.
    unknown_N = torch.where(offset_N < length, canvas_N, canvas.mask_id)
    input_ids_N = input_batch.input_ids[: input_batch.num_tokens]
    input_ids_N.copy_(torch.where(offset_N < 0, history_N, unknown_N))


def shifted_logits_indices(input_batch: InputBatch, view: BatchView, shift_R: np.ndarray) -> Tensor:
    """Rows (K,) of the hidden states, ``shift_R`` before those of the canvas positions."""
    shift_np = np.repeat(shift_R.astype(np.int64), view.num_rows_R)
    shift_K = async_tensor_h2d(shift_np, device=input_batch.logits_indices.device)
    return input_batch.logits_indices - shift_K.to(input_batch.logits_indices.dtype)


def inner_logits_indices(
    input_batch: InputBatch, req_states: RequestState, view: BatchView, shift: int
) -> Tensor:
    """Rows (K,) of the hidden states for canvases that masks follow in the query."""
    num_reqs = len(view.num_rows_R)
    request_np = np.repeat(np.arange(num_reqs), view.num_rows_R)
    first_np = np.repeat(np.cumsum(view.num_rows_R) - view.num_rows_R, view.num_rows_R)
    # All but the known tokens' number, which the device has.
    base_np = (
        input_batch.query_start_loc_np[request_np]
        - view.start_R[request_np]
        + (np.arange(len(request_np)) - first_np)
        - shift
    )
    host_np = np.stack((view.slot_R[request_np], base_np)).astype(np.int64)
    slot_K, base_K = async_tensor_h2d(host_np, device=input_batch.logits_indices.device)
    return req_states.total_len.gpu[slot_K] + base_K
