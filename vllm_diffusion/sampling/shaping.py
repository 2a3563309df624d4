"""What requests ask of the logits themselves, by slot, and doing it to a step's rows.

Biases, allowed ids, stop ids that come too early, penalties, bad words: ``denoise.shape`` and
``denoise.bad_words`` define them. Whoever asks for none of it costs nothing.

Shape suffixes: S slots, B requests with a canvas, Q of them that ask for the thing at hand, P their
rows of logits, T known tokens, L canvas length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d

from vllm_diffusion.batch.canvases import Canvases, rows_of
from vllm_diffusion.batch.slot_lists import SlotLists, SlotWords
from vllm_diffusion.denoise.bad_words import NONE, BadWords, forbidden
from vllm_diffusion.denoise.shape import (
    History,
    Penalties,
    add_bias,
    forbid,
    keep_allowed,
    penalize,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.sampling_params import SamplingParams
    from vllm.v1.worker.gpu.states import RequestState

    from vllm_diffusion.batch.slots import RequestParams
    from vllm_diffusion.denoise.canvas import Canvas


class Shaping:
    """Slot-indexed wishes, on host and device."""

    def __init__(self, params: RequestParams, req_states: RequestState, canvas: Canvas) -> None:
        num_slots = len(canvas.step_S)
        self.params = params
        self.req_states = req_states
        self.canvas = canvas
        self.asks_S: NDArray[np.bool_] = np.zeros(num_slots, dtype=np.bool_)
        self.allowed = SlotLists(num_slots)
        self.bias_ids = SlotLists(num_slots)
        self.bias = SlotLists(num_slots, torch.float32)
        self.banned = SlotLists(num_slots)
        self.early_stops = SlotLists(num_slots)
        self.words = SlotWords(num_slots)
        self.min_len_S: NDArray[np.int64] = np.zeros(num_slots, dtype=np.int64)
        # Repetition, frequency, presence.
        self.penalties_3S: NDArray[np.float32] = np.zeros((3, num_slots), dtype=np.float32)
        self.penalizes_S: NDArray[np.bool_] = np.zeros(num_slots, dtype=np.bool_)
        self._is_stale = False

    def add(self, slot: int, sampling: SamplingParams) -> None:
        """Write the wishes of the request that now owns ``slot``."""
        bias = sampling.logit_bias or {}
        words = [list(map(int, word)) for word in sampling.bad_words_token_ids or ()]
        stops: list[int] = []
        if sampling.min_tokens:
            # vLLM's rule: the end of sequence is among them even with ignore_eos.
            stops = [id for id in sampling.all_stop_token_ids if id < self.params.vocab_size]
        self.allowed.write(slot, sampling.allowed_token_ids or ())
        self.bias_ids.write(slot, [int(id) for id in bias])
        self.bias.write(slot, [float(value) for value in bias.values()])
        self.banned.write(slot, [word[0] for word in words if len(word) == 1])
        self.early_stops.write(slot, sorted(stops))
        self.words.write(slot, [word for word in words if len(word) > 1])
        self.min_len_S[slot] = self.params.prompt_len[slot] + sampling.min_tokens
        penalties = (
            sampling.repetition_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        )
        self.penalties_3S[:, slot] = penalties
        self.penalizes_S[slot] = penalties != (1.0, 0.0, 0.0)
        self.asks_S[slot] = (
            bool(bias or words or stops or sampling.allowed_token_ids) or self.penalizes_S[slot]
        )
        self._is_stale |= bool(self.asks_S[slot]) or self.words.values is not None

    def copy_to_device(self) -> None:
        """Make what was written visible to the next step."""
        if self._is_stale:
            for lists in (self.allowed, self.bias_ids, self.bias, self.banned, self.early_stops):
                lists.copy_to_device()
            self.words.copy_to_device()
            self._is_stale = False

    def apply(self, logits_NV: Tensor, of: Canvases) -> None:
        """Shape the rows of the canvases that ask for it, in place."""
        asks_B = self.asks_S[of.slot_B]
        if not asks_B.any():
            return
        if (asked := self._asked(of, self.allowed.length_S > 0, logits_NV)) is not None:
            request_P, _, row_P, slot_Q = asked
            keep_allowed(logits_NV, row_P, self.allowed.of(slot_Q)[request_P])
        if (asked := self._asked(of, self.bias_ids.length_S > 0, logits_NV)) is not None:
            request_P, _, row_P, slot_Q = asked
            ids_PK = self.bias_ids.of(slot_Q)[request_P]
            add_bias(logits_NV, row_P, ids_PK, self.bias.of(slot_Q)[request_P])
        if (asked := self._asked(of, self.early_stops.length_S > 0, logits_NV)) is not None:
            self._forbid_early_stops(logits_NV, of, asked)
        if (asked := self._asked(of, self.penalizes_S, logits_NV)) is not None:
            self._penalize(logits_NV, of, asked)
        if (asked := self._asked(of, self.banned.length_S > 0, logits_NV)) is not None:
            request_P, _, row_P, slot_Q = asked
            forbid(logits_NV, row_P[:, None], self.banned.of(slot_Q)[request_P])
        if (words := self.bad_words(of)) is not None:
            self._forbid_words(logits_NV, of, words)

    def _asked(
        self, of: Canvases, asks_S: NDArray[np.bool_], logits_NV: Tensor
    ) -> tuple[Tensor, ...] | None:
        """Which of the Q asking requests, canvas offset and row of the logits, each (P,), and the
        slots (Q,); None where nobody asks.
        """
        asks_B = asks_S[of.slot_B]
        if not asks_B.any():
            return None
        rows_4P = async_tensor_h2d(rows_of(of, asks_B), device=logits_NV.device)
        slot_Q = async_tensor_h2d(of.slot_B[asks_B], device=logits_NV.device)
        return (*rows_4P[:3].unbind(0), slot_Q)

    def _forbid_early_stops(
        self, logits_NV: Tensor, of: Canvases, asked: tuple[Tensor, ...]
    ) -> None:
        request_P, offset_P, row_P, slot_Q = asked
        min_len_S = async_tensor_h2d(self.min_len_S, device=logits_NV.device)
        position_P = self.req_states.total_len.gpu[slot_Q].long()[request_P] + offset_P
        if of.is_verify_B is not None:
            # A row of a verification speaks of the position after it.
            asks_B = self.early_stops.length_S[of.slot_B] > 0
            position_P = (
                position_P
                + async_tensor_h2d(
                    of.is_verify_B[asks_B].astype(np.int64), device=logits_NV.device
                )[request_P]
            )
        is_early_P1 = (position_P < min_len_S[slot_Q][request_P])[:, None]
        ids_PK = self.early_stops.of(slot_Q)[request_P]
        # The mask token is forbidden anyway.
        forbid(logits_NV, row_P[:, None], torch.where(is_early_P1, ids_PK, self.canvas.mask_id))

    def _penalize(self, logits_NV: Tensor, of: Canvases, asked: tuple[Tensor, ...]) -> None:
        request_P, offset_P, row_P, slot_Q = asked
        device = logits_NV.device
        asks_B = self.penalizes_S[of.slot_B]
        slots = of.slot_B[asks_B]
        prompt_len_Q1 = async_tensor_h2d(self.params.prompt_len[slots], device=device)[:, None]
        penalties_3Q = async_tensor_h2d(self.penalties_3S[:, slots], device=device)
        # A query ends behind the known tokens.
        all_ids_ST = self.req_states.all_token_ids.gpu
        longest = min(int(of.end_B[asks_B].max()), all_ids_ST.shape[1])
        position_T = torch.arange(longest, device=device)
        is_known_QT = position_T < self.req_states.total_len.gpu[slot_Q][:, None]
        in_prompt_QT = is_known_QT & (position_T < prompt_len_Q1)
        canvas_QL = self.canvas.tokens_SL[slot_Q]
        settled_QL = ~self.canvas.masked_SL[slot_Q]
        history = History(
            tokens_QT=torch.cat((all_ids_ST[:, :longest][slot_Q].long(), canvas_QL), dim=1),
            in_prompt_QT=torch.cat((in_prompt_QT, torch.zeros_like(settled_QL)), dim=1),
            in_output_QT=torch.cat((is_known_QT & ~in_prompt_QT, settled_QL), dim=1),
        )
        own_QL = torch.where(settled_QL, canvas_QL, -1)
        own_P = own_QL[request_P, offset_P]
        penalize(logits_NV, row_P, request_P, own_P, history, Penalties(*penalties_3Q.unbind(0)))

    def _forbid_words(self, logits_NV: Tensor, of: Canvases, words: BadWords) -> None:
        device = logits_NV.device
        host = np.stack((of.slot_B, of.row_start_B, of.num_rows_B))
        slot_B, row_start_B, num_rows_B = async_tensor_h2d(host, device=device)
        is_forbidden_BX, position_BX, token_BX = forbidden(
            words, self.canvas.tokens_SL[slot_B], ~self.canvas.masked_SL[slot_B]
        )
        is_forbidden_BX = is_forbidden_BX & (position_BX < num_rows_B[:, None])
        offset_BX = torch.where(is_forbidden_BX, position_BX, 0)
        token_BX = torch.where(is_forbidden_BX, token_BX, self.canvas.mask_id)
        forbid(logits_NV, row_start_B[:, None] + offset_BX, token_BX)

    def bad_words(self, of: Canvases) -> BadWords | None:
        """The words of the step's requests, where any has words of several tokens."""
        if not self.words.num_S[of.slot_B].any():
            return None
        device = self.canvas.tokens_SL.device
        host = np.stack((of.slot_B, self.params.prompt_len[of.slot_B]))
        slot_B, prompt_len_B = async_tensor_h2d(host, device=device)
        words_BWK = self.words.of(slot_B)
        before_C = torch.arange(1 - words_BWK.shape[2], 0, device=device)
        position_BC = self.req_states.total_len.gpu[slot_B].long()[:, None] + before_C
        all_ids: Any = self.req_states.all_token_ids.gpu
        context_BC = all_ids[slot_B[:, None], position_BC.clamp(min=0)].long()
        is_output_BC = position_BC >= prompt_len_B[:, None]
        return BadWords(words_BWK, torch.where(is_output_BC, context_BC, NONE))
