"""``min_tokens``: tokens that end the text are impossible at the first so many positions.

Shape suffixes: S slots, N rows of logits, V vocabulary, Q requests that ask, P their rows, K ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.device import to_device
from vllm_diffusion.batch.slot_lists import SlotLists
from vllm_diffusion.sampling.base import LogitsOp, SlotState
from vllm_diffusion.sampling.rows import asked_rows, forbid

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams

    from vllm_diffusion.batch.canvases import Canvases


class MinTokens(LogitsOp):
    def __init__(self, slots: SlotState) -> None:
        self.params, self.req_states, self.canvas = slots.params, slots.req_states, slots.canvas
        self.asks_S = np.zeros(slots.num_slots, dtype=np.bool_)
        self.stops = SlotLists(slots.num_slots)
        self.min_len_S = np.zeros(slots.num_slots, dtype=np.int64)

    def add(self, slot: int, sampling: SamplingParams) -> None:
        stops: list[int] = []
        if sampling.min_tokens:
            # vLLM's rule: the end of sequence is among them even with ignore_eos.
            stops = [id for id in sampling.all_stop_token_ids if id < self.params.vocab_size]
        self.stops.write(slot, sorted(stops))
        self.min_len_S[slot] = self.params.prompt_len[slot] + sampling.min_tokens
        self.asks_S[slot] = bool(stops)

    def copy_to_device(self) -> None:
        self.stops.copy_to_device()

    def apply(self, logits_NV: Tensor, batch: Canvases) -> None:
        device = logits_NV.device
        if (rows := asked_rows(batch, self.asks_S, device)) is None:
            return
        request_P = rows.request_P
        position_P = self.req_states.total_len.gpu[rows.slot_Q].long()[request_P] + rows.offset_P
        if batch.is_verify_B is not None:
            # A row of a verification speaks of the position after it.
            is_verify_Q = to_device(batch.is_verify_B[rows.asks_B].astype(np.int64), device)
            position_P = position_P + is_verify_Q[request_P]
        min_len_Q = to_device(self.min_len_S[batch.slot_B[rows.asks_B]], device)
        is_early_P1 = (position_P < min_len_Q[request_P])[:, None]
        ids_PK = self.stops.of(rows.slot_Q)[request_P]
        # The mask token is forbidden anyway.
        ids_PK = torch.where(is_early_P1, ids_PK, self.canvas.mask_id)
        forbid(logits_NV, rows.row_P[:, None], ids_PK)
