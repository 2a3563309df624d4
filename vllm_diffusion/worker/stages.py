"""Pipeline parallelism: what the last rank made of a step's canvases, for the ranks before it.

Every rank holds every canvas, since the first one embeds them; the last one alone denoises. It
sends one message a step, and the others apply it before the next step that needs it. Between the
two they go on with other requests. A step without a canvas has no message.

Shape suffixes: S slots, R requests in the batch, B of them with a canvas, L canvas length, C
columns of a message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.device import to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.v1.worker.gpu.input_batch import InputBatch

    from vllm_diffusion.denoise.canvas import Canvas

NUM_COUNTS = 2
"""A message's first columns: tokens emitted, tokens of the query that do not count as computed."""


def pack(
    sampled_BL: Tensor, num_sampled_B: Tensor, num_rejected_B: Tensor, canvas_BL: Tensor
) -> Tensor:
    """One int64 message (B, C): counts, what was emitted, the canvases after it."""
    counts_B2 = torch.stack((num_sampled_B, num_rejected_B), dim=1).long()
    return torch.cat((counts_B2, sampled_BL, canvas_BL), dim=1)


def unpack(message_BC: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What ``pack`` was given."""
    length = (message_BC.shape[1] - NUM_COUNTS) // 2
    num_sampled_B, num_rejected_B = message_BC[:, :NUM_COUNTS].int().unbind(1)
    sampled_BL, canvas_BL = message_BC[:, NUM_COUNTS:-length], message_BC[:, -length:]
    return sampled_BL.contiguous(), num_sampled_B, num_rejected_B, canvas_BL


@dataclass(frozen=True, slots=True)
class Awaited:
    """A message that is under way to this rank."""

    requests: frozenset[str]
    slot_B: NDArray[np.intp]
    owner_B: NDArray[np.int64]
    """Which request had the slot, counted."""
    work: Any
    message_BC: Tensor


class Stages:
    """Stands in for the runner's ``PPHandler``, whose methods it has.

    vLLM's sends tokens and drafts in three messages, leaves out requests that it expects to end
    with their first token, and takes a request to be scheduled every so many steps.

    Args:
        handler: the runner's own, for its communicator.
        num_ranks: of the pipeline; so many steps are under way at the most.
        canvas: of all slots, on this rank.
        note_step: called once a step on a rank that does not sample.
    """

    def __init__(
        self,
        handler: Any,
        num_ranks: int,
        canvas: Canvas,
        note_step: Callable[[InputBatch], None],
    ) -> None:
        self.group, self.last_rank = handler.broadcast_group, handler.last_rank
        self.num_ranks, self.canvas, self.note_step = num_ranks, canvas, note_step
        self.owner_S = np.zeros(len(canvas.step_S), dtype=np.int64)
        self.sent: deque[tuple[Any, Tensor]] = deque()
        self.awaited: deque[Awaited] = deque()

    def on_req_idx_freed(self, slot: int) -> None:
        self.owner_S[slot] += 1

    def relay_aux_hidden_states(self, _: Any, output: Any) -> Any:
        """Speculators alone want more than the hidden states."""
        return output

    def broadcast(
        self,
        sampled_RL: Tensor,
        num_sampled_R: Tensor,
        num_rejected_R: Tensor,
        input_batch: InputBatch,
    ) -> None:
        """The last rank's step is done: tell the others, and wait for nobody."""
        request_B = with_canvas(input_batch).nonzero()[0]
        if len(request_B) == 0:
            return
        row_B = to_device(request_B, self.canvas.tokens_SL.device)
        canvas_BL = self.canvas.tokens_SL[input_batch.idx_mapping[row_B]]
        message_BC = pack(sampled_RL[row_B], num_sampled_R[row_B], num_rejected_R[row_B], canvas_BL)
        self.sent.append((self._exchange(message_BC), message_BC))
        if len(self.sent) > self.num_ranks:
            self.sent.popleft()[0].wait()

    def broadcast_drafts(self, draft_tokens: Tensor, input_batch: InputBatch) -> None:
        """The canvases are in the message already."""

    def receive(self, input_batch: InputBatch) -> bool:
        """Another rank's forward is done: the message of this step can come.

        Returns:
            True: no other state of the model has to be brought up to date.
        """
        self.note_step(input_batch)
        has_canvas_R = with_canvas(input_batch)
        slot_B = input_batch.idx_mapping_np[: len(has_canvas_R)][has_canvas_R]
        if len(slot_B) == 0:
            return True
        tokens_SL = self.canvas.tokens_SL
        num_columns = NUM_COUNTS + 2 * tokens_SL.shape[1]
        message_BC = tokens_SL.new_empty(len(slot_B), num_columns, dtype=torch.int64)
        self.awaited.append(
            Awaited(
                requests=frozenset(compress(input_batch.req_ids, has_canvas_R.tolist())),
                slot_B=slot_B,
                owner_B=self.owner_S[slot_B],
                work=self._exchange(message_BC),
                message_BC=message_BC,
            )
        )
        return True

    def get_prev_sampled_outputs(self, *_: Any) -> None:
        """Nothing: ``bring_up_to_date`` has done it."""

    def bring_up_to_date(self, runner: Any, scheduled: Mapping[str, Any]) -> None:
        """Apply what is needed before a step of the ``scheduled`` requests.

        A request is scheduled once the engine core has its last step's output, so its message has
        been sent. The same holds for what is older than the steps that may be under way.
        """
        while self.awaited and (
            len(self.awaited) >= self.num_ranks
            or any(not awaited.requests.isdisjoint(scheduled) for awaited in self.awaited)
        ):
            self._apply(runner, self.awaited.popleft())

    def _apply(self, runner: Any, awaited: Awaited) -> None:
        awaited.work.wait()
        slot_B, message_BC = awaited.slot_B, awaited.message_BC
        # A request may have ended since, and its slot may be another's.
        is_here_B = self.owner_S[slot_B] == awaited.owner_B
        if not is_here_B.all():
            rows = is_here_B.nonzero()[0]
            slot_B, message_BC = slot_B[rows], message_BC[to_device(rows, message_BC.device)]
        slots = to_device(slot_B, message_BC.device)
        sampled_BL, num_sampled_B, num_rejected_B, canvas_BL = unpack(message_BC)
        self.canvas.tokens_SL[slots] = canvas_BL
        # The whole query was counted as computed when the forward was done.
        runner.postprocess_sampled(slots, sampled_BL, num_sampled_B, num_rejected_B)

    def _exchange(self, message_BC: Tensor) -> Any:
        return torch.distributed.broadcast(
            message_BC, src=self.last_rank, group=self.group, async_op=True
        )


def with_canvas(input_batch: InputBatch) -> NDArray[np.bool_]:
    """Which requests of the batch have a canvas, bool (R,); every rank says the same."""
    borders = input_batch.cu_num_logits_np[: input_batch.num_reqs + 1]
    has_canvas_R: NDArray[np.bool_] = np.diff(borders) > 0
    return has_canvas_R
