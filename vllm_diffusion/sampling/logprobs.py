"""``logprobs``: log-probabilities of accepted tokens, from the step that accepted them.

A token's is that of the distribution in which it became the canvas's: at the step of its
acceptance, or of its last edit. So it says how sure the model was given what the canvas held then,
and the sum over a text is no likelihood in the sense of a left-to-right model.

They are kept until the block is emitted, in memory for as many requests as ask at a time, once
somebody does. Shape suffixes: S slots, R requests in the batch, Q of them that ask, P their rows of
logits, N rows of logits, V vocabulary, K alternatives, L canvas length, A = 1 + K columns: the
token itself, then the alternatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.canvases import Canvases, rows_of
from vllm_diffusion.batch.device import to_device
from vllm_diffusion.batch.slot_lists import SlotLists

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.sampling_params import SamplingParams
    from vllm.v1.outputs import LogprobsTensors

    from vllm_diffusion.batch.slots import RequestParams
    from vllm_diffusion.denoise.canvas import Canvas

NOT_ASKED = -1


class Scores(NamedTuple):
    """Of one row or position each; leading dimensions as the caller's."""

    ids_A: Tensor
    """int64. The token, then the alternatives."""
    scores_A: Tensor
    """float32. Their log-probabilities, or logits; -inf where there is no alternative."""
    rank: Tensor
    """int64. How many tokens are at least as probable as the token, itself included."""


def scores_of(
    logits_NV: Tensor,
    token_N: Tensor,
    num_top: int,
    ids_NK: Tensor | None = None,
    num_ids_N: Tensor | None = None,
    *,
    gives_logits: bool = False,
) -> Scores:
    """Score each row's token and alternatives.

    Args:
        logits_NV: float32 (N, V), the mask token's at -inf, so that it has no probability.
        token_N: int64 (N,).
        num_top: how many of the most probable tokens are alternatives.
        ids_NK: int64 (N, K'), the alternatives of rows that name them, if any row does.
        num_ids_N: int64 (N,), how many of ``ids_NK`` count; 0 where the row names none.
        gives_logits: score by logits in the place of log-probabilities.
    """
    top_NK = logits_NV.topk(num_top, dim=-1).indices
    is_given_NK = torch.ones_like(top_NK, dtype=torch.bool)
    if ids_NK is not None and num_ids_N is not None:
        num = max(num_top, ids_NK.shape[1])
        names_N1 = (num_ids_N > 0)[:, None]
        top_NK, ids_NK = _widened(top_NK, num), _widened(ids_NK, num)
        top_NK = torch.where(names_N1, ids_NK, top_NK)
        num_given_N1 = torch.where(names_N1, num_ids_N[:, None], num_top)
        is_given_NK = torch.arange(num, device=logits_NV.device) < num_given_N1
    token_N1 = token_N[:, None]
    ids_NA = torch.cat((token_N1, top_NK), dim=1)
    scores_NA = logits_NV.gather(1, ids_NA)
    chosen_N1 = scores_NA[:, :1]
    rank_N = (logits_NV >= chosen_N1).sum(dim=-1)
    if not gives_logits:
        scores_NA = scores_NA - logits_NV.logsumexp(dim=-1, keepdim=True)
    scores_NA[:, 1:].masked_fill_(~is_given_NK, -torch.inf)
    return Scores(ids_NA, scores_NA, rank_N)


def _widened(ids_NK: Tensor, num: int) -> Tensor:
    """With zeros up to ``num`` columns."""
    return torch.nn.functional.pad(ids_NK, (0, num - ids_NK.shape[1]))


def changed_positions(
    tokens_QL: Tensor, scored_QL: Tensor, new_QL: Tensor, settled_QL: Tensor
) -> Tensor:
    """bool (Q, L): positions whose token is new and has no score yet.

    Not those that were masked before the step: a canvas may also begin with tokens that nothing
    has scored.

    Args:
        tokens_QL: int64, the canvases before the step.
        scored_QL: bool, their positions that have a score.
        new_QL: int64, the canvases after it.
        settled_QL: bool, their settled positions.
    """
    return settled_QL & (~scored_QL | (new_QL != tokens_QL))


class LogprobsSnapshot(NamedTuple):
    """What the step must not take with it."""

    logits_PV: Tensor
    """float32. The mask token's at -inf."""
    rows_4P: Tensor
    """int64. Which of the Q requests, canvas offset, row of the batch's logits, slot."""
    columns_5Q: Tensor
    """int64. Index in the batch, slot, place in the store, first of the P rows, number of them."""
    slots: NDArray[np.int64]
    """int64 (Q,). The slots, on the host."""
    requests: NDArray[np.int64]
    """int64 (Q,). The indices in the batch, on the host."""
    tokens_QL: Tensor
    """int64. The canvases before the step."""


class AcceptedLogprobs:
    """Notes the logits of the requests that ask, and scores what the step accepts.

    Args:
        params: of all slots.
        canvas: of all slots.
        mode: vLLM's ``logprobs_mode``. "raw": before anything that the request asks of the logits;
            "processed": after all of it, temperature and cuts too.
        temper: rows of logits, and the slot of each on the host, to those that are drawn from.
    """

    def __init__(
        self,
        params: RequestParams,
        canvas: Canvas,
        mode: str,
        temper: Callable[[Tensor, NDArray[np.int64]], Tensor],
    ) -> None:
        num_slots = len(canvas.step_S)
        self.params = params
        self.canvas = canvas
        self.temper = temper
        self.is_raw = mode.startswith("raw")
        self.gives_logits = mode.endswith("logits")
        self.num_top_S: NDArray[np.int64] = np.full(num_slots, NOT_ASKED, dtype=np.int64)
        self.named = SlotLists(num_slots)
        self.place_S: NDArray[np.int64] = np.zeros(num_slots, dtype=np.int64)
        self._free: list[int] = []
        self._store: Scores | None = None
        # Positions of each place's canvas that have a score.
        self._scored_PL = torch.zeros_like(canvas.masked_SL[:0])

    def add(self, slot: int, sampling: SamplingParams) -> None:
        """Take note of what the request that now owns ``slot`` asks for."""
        self.remove(slot)
        num = sampling.num_logprobs
        self.named.write(slot, sampling.logprob_token_ids or ())
        if num is None:
            return
        num = self.params.vocab_size if num == -1 else num
        self._make_room(num + 1)
        self.place_S[slot] = self._free.pop()
        self._scored_PL[self.place_S[slot]] = False
        self.num_top_S[slot] = 0 if sampling.logprob_token_ids else num

    def remove(self, slot: int) -> None:
        """The slot's request is gone."""
        if self.num_top_S[slot] != NOT_ASKED:
            self._free.append(int(self.place_S[slot]))
            self.num_top_S[slot] = NOT_ASKED

    def _make_room(self, num_columns: int) -> None:
        """For one more request with so many columns."""
        store, length = self._store, self.canvas.tokens_SL.shape[1]
        num_places, width = (
            (0, 0) if store is None else (store.ids_A.shape[0], store.ids_A.shape[2])
        )
        more = 0 if self._free else max(num_places, 1)
        if not more and num_columns <= width:
            return
        shape = (num_places + more, length, max(num_columns, width))
        device = self.canvas.tokens_SL.device
        self._store = Scores(
            ids_A=torch.zeros(shape, dtype=torch.int64, device=device),
            scores_A=torch.zeros(shape, dtype=torch.float32, device=device),
            rank=torch.zeros(shape[:2], dtype=torch.int64, device=device),
        )
        if store is not None:
            self._store.ids_A[:num_places, :, :width] = store.ids_A
            self._store.scores_A[:num_places, :, :width] = store.scores_A
            self._store.rank[:num_places] = store.rank
        new_PL = self._scored_PL.new_zeros(more, length)
        self._scored_PL = torch.cat((self._scored_PL, new_PL))
        self._free += range(num_places, num_places + more)

    def note(self, logits_NV: Tensor, batch: Canvases) -> LogprobsSnapshot | None:
        """Keep the rows of the requests that ask, and their canvases, over the step."""
        asks_B = self.num_top_S[batch.slot_B] != NOT_ASKED
        if not asks_B.any():
            return None
        device = logits_NV.device
        num_rows_Q, slots = batch.num_rows_B[asks_B], batch.slot_B[asks_B]
        requests = batch.request_B[asks_B]
        first_Q = np.cumsum(num_rows_Q) - num_rows_Q
        host = np.stack((requests, slots, self.place_S[slots], first_Q, num_rows_Q))
        columns_5Q = to_device(host, device)
        rows = rows_of(batch, asks_B)
        rows_4P = to_device(rows, device)
        logits_PV = logits_NV[rows_4P[2]].float()
        logits_PV[:, self.canvas.mask_id] = -torch.inf
        if not self.is_raw and (self.params.temperature.np[slots] > 0).any():
            logits_PV = self._tempered(logits_PV, rows[3])
        slot_Q = columns_5Q[1]
        return LogprobsSnapshot(
            logits_PV=logits_PV,
            rows_4P=rows_4P,
            columns_5Q=columns_5Q,
            slots=slots,
            requests=requests,
            tokens_QL=self.canvas.tokens_SL[slot_Q],
        )

    def _tempered(self, logits_PV: Tensor, slot_P: NDArray[np.int64]) -> Tensor:
        """As the candidates are drawn; greedy rows stay as they are."""
        drawn = np.flatnonzero(self.params.temperature.np[slot_P] > 0)
        index = to_device(drawn, logits_PV.device)
        return logits_PV.index_copy(0, index, self.temper(logits_PV[index], slot_P[drawn]))

    def result(
        self, snapshot: LogprobsSnapshot, tokens_RL: Tensor, num_emitted_R: Tensor
    ) -> LogprobsTensors:
        """Score what the step changed; the canvases' scores as the runner takes them.

        Args:
            snapshot: from before the step.
            tokens_RL: int64 (R, L), the canvases after it, before an emitted one starts afresh.
            num_emitted_R: (R,), tokens that are emitted.
        """
        from vllm.v1.outputs import LogprobsTensors

        assert self._store is not None
        request_Q, slot_Q, place_Q, first_Q, num_rows_Q = snapshot.columns_5Q.unbind(0)
        request_P, offset_P = snapshot.rows_4P[:2].unbind(0)
        new_QL = tokens_RL[request_Q]
        ids_PK = num_ids_P = None
        num_named = self.named.length_S[snapshot.slots]
        if num_named.any():
            ids_PK = self.named.of(slot_Q)[request_P][:, : int(num_named.max())]
            num_ids_P = to_device(num_named, new_QL.device)[request_P]
        scores = scores_of(
            snapshot.logits_PV,
            new_QL[request_P, offset_P],
            int(self.num_top_S[snapshot.slots].max()),
            ids_PK,
            num_ids_P,
            gives_logits=self.gives_logits,
        )
        position_L = torch.arange(new_QL.shape[1], device=new_QL.device)
        num_emitted_Q1 = num_emitted_R[request_Q][:, None]
        # The canvas of an emitted block is a fresh one already.
        settled_QL = torch.where(
            num_emitted_Q1 > 0, position_L < num_emitted_Q1, ~self.canvas.masked_SL[slot_Q]
        )
        # A step that only makes the seed says nothing of the positions behind it.
        settled_QL &= position_L < num_rows_Q[:, None]
        scored_QL = self._scored_PL[place_Q]
        changed_QL = changed_positions(snapshot.tokens_QL, scored_QL, new_QL, settled_QL)
        self._scored_PL[place_Q] = settled_QL & (num_emitted_Q1 == 0)
        row_QL = first_Q[:, None] + torch.minimum(position_L, num_rows_Q[:, None] - 1)
        store, width = self._store, scores.ids_A.shape[1]
        changed_QL1 = changed_QL[:, :, None]
        ids_QLA = torch.where(changed_QL1, scores.ids_A[row_QL], store.ids_A[place_Q, :, :width])
        scores_QLA = torch.where(
            changed_QL1, scores.scores_A[row_QL], store.scores_A[place_Q, :, :width]
        )
        rank_QL = torch.where(changed_QL, scores.rank[row_QL], store.rank[place_Q])
        store.ids_A[place_Q, :, :width] = ids_QLA
        store.scores_A[place_Q, :, :width] = scores_QLA
        store.rank[place_Q] = rank_QL
        num_rows_R = np.zeros(len(tokens_RL), dtype=np.int64)
        num_rows_R[snapshot.requests] = new_QL.shape[1]
        return LogprobsTensors(
            logprob_token_ids=ids_QLA.flatten(0, 1),
            logprobs=scores_QLA.flatten(0, 1),
            selected_token_ranks=rank_QL.flatten(),
            cu_num_generated_tokens=[0, *np.cumsum(num_rows_R).tolist()],
        )
