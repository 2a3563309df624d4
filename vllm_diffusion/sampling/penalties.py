"""Repetition, frequency and presence penalties.

In place, on the rows of the requests that ask alone: the rest of the logits is neither read nor
copied.

Shape suffixes: S slots, N rows of logits, V vocabulary, B requests with a canvas, Q of them that
ask, P their rows, T known tokens, L canvas length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.device import to_device
from vllm_diffusion.sampling.base import LogitsOp, SlotState
from vllm_diffusion.sampling.rows import asked_rows

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams

    from vllm_diffusion.batch.canvases import Canvases
    from vllm_diffusion.sampling.rows import AskedRows

NEUTRAL = (1.0, 0.0, 0.0)
"""Of repetition, frequency and presence."""


@dataclass(frozen=True, slots=True)
class History:
    """The tokens of the requests with penalties."""

    tokens_QT: Tensor
    """int64. Any ids where neither of the next two is true."""
    in_prompt_QT: Tensor
    """bool."""
    in_output_QT: Tensor
    """bool. Emitted, or accepted in the canvas at the moment."""


@dataclass(frozen=True, slots=True)
class Penalties:
    """Of the requests that have any; 1, 0 and 0 ask for nothing. float32."""

    repetition_Q: Tensor
    frequency_Q: Tensor
    presence_Q: Tensor


def penalize(
    logits_NV: Tensor,
    row_P: Tensor,
    request_P: Tensor,
    own_P: Tensor,
    history: History,
    penalties: Penalties,
) -> None:
    """Penalise the tokens that prompt and output hold.

        repetition, in prompt or output:  l / r if l > 0 else l * r
        frequency, presence, in output:   l - f * count - p * [count > 0]

    CTRL's repetition penalty (arXiv 1909.05858) and OpenAI's two, in vLLM's order. Touches the
    logits of those tokens alone.

    Args:
        logits_NV: (N, V).
        row_P: int64 (P,), rows of the requests with penalties.
        request_P: int64 (P,), which of the Q requests.
        own_P: int64 (P,), the accepted token at the row's own position, which does not count
            there; -1 where that is masked.
        history: of the Q requests.
        penalties: of the Q requests.
    """
    num_requests, vocab_size = len(history.tokens_QT), logits_NV.shape[1]
    # Whatever is no token of the request may stand for token 0, whose entry is right anyway.
    is_token_QT = history.in_prompt_QT | history.in_output_QT
    tokens_QT = torch.where(is_token_QT, history.tokens_QT, 0)
    count_QV = torch.zeros(
        num_requests, vocab_size, dtype=torch.float32, device=logits_NV.device
    ).scatter_add_(1, tokens_QT, history.in_output_QT.float())
    prompt_QV = torch.zeros_like(count_QV).scatter_add_(1, tokens_QT, history.in_prompt_QT.float())
    tokens_PT = tokens_QT[request_P]
    request_P1, row_P1 = request_P[:, None], row_P[:, None]
    count_PT = count_QV[request_P1, tokens_PT] - (tokens_PT == own_P[:, None]).float()
    in_prompt_PT = prompt_QV[request_P1, tokens_PT] > 0
    in_output_PT = count_PT > 0
    repetition_P1 = penalties.repetition_Q[request_P1]
    logits_PT = logits_NV[row_P1, tokens_PT].float()
    repeated_PT = torch.where(logits_PT > 0, logits_PT / repetition_P1, logits_PT * repetition_P1)
    logits_PT = torch.where(in_prompt_PT | in_output_PT, repeated_PT, logits_PT)
    logits_PT = logits_PT - penalties.frequency_Q[request_P1] * count_PT
    logits_PT = logits_PT - penalties.presence_Q[request_P1] * in_output_PT
    logits_NV[row_P1, tokens_PT] = logits_PT.to(logits_NV.dtype)


class PenaltiesOp(LogitsOp):
    def __init__(self, slots: SlotState) -> None:
        self.params, self.req_states, self.canvas = slots.params, slots.req_states, slots.canvas
        self.asks_S = np.zeros(slots.num_slots, dtype=np.bool_)
        # Repetition, frequency, presence.
        self.penalties_3S = np.zeros((3, slots.num_slots), dtype=np.float32)

    def add(self, slot: int, sampling: SamplingParams) -> None:
        penalties = (
            sampling.repetition_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        )
        self.penalties_3S[:, slot] = penalties
        self.asks_S[slot] = penalties != NEUTRAL

    def copy_to_device(self) -> None:
        """A step copies what it needs."""

    def apply(self, logits_NV: Tensor, batch: Canvases) -> None:
        device = logits_NV.device
        if (rows := asked_rows(batch, self.asks_S, device)) is None:
            return
        history, own_QL = self._history(batch, rows)
        own_P = own_QL[rows.request_P, rows.offset_P]
        penalties_3Q = to_device(self.penalties_3S[:, batch.slot_B[rows.asks_B]], device)
        penalties = Penalties(*penalties_3Q.unbind(0))
        penalize(logits_NV, rows.row_P, rows.request_P, own_P, history, penalties)

    def _history(self, batch: Canvases, rows: AskedRows) -> tuple[History, Tensor]:
        """And the accepted token at each canvas position, (Q, L), -1 where that is masked."""
        slot_Q, slots = rows.slot_Q, batch.slot_B[rows.asks_B]
        prompt_len_Q1 = to_device(self.params.prompt_len[slots], slot_Q.device)[:, None]
        # A query ends behind the known tokens.
        all_ids_ST = self.req_states.all_token_ids.gpu
        longest = min(int(batch.end_B[rows.asks_B].max()), all_ids_ST.shape[1])
        position_T = torch.arange(longest, device=slot_Q.device)
        is_known_QT = position_T < self.req_states.total_len.gpu[slot_Q][:, None]
        in_prompt_QT = is_known_QT & (position_T < prompt_len_Q1)
        canvas_QL = self.canvas.tokens_SL[slot_Q]
        settled_QL = ~self.canvas.masked_SL[slot_Q]
        history = History(
            tokens_QT=torch.cat((all_ids_ST[:, :longest][slot_Q].long(), canvas_QL), dim=1),
            in_prompt_QT=torch.cat((in_prompt_QT, torch.zeros_like(settled_QL)), dim=1),
            in_output_QT=torch.cat((is_known_QT & ~in_prompt_QT, settled_QL), dim=1),
        )
        return history, torch.where(settled_QL, canvas_QL, -1)
