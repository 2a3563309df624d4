"""Runs the sampling features of ``ops`` around a step, be it in torch or in C++.

A batch in which nobody asks pays for a look at one array. Shape suffixes: N rows of logits, R
requests in the batch, S slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vllm_diffusion.sampling.base import SlotState
from vllm_diffusion.sampling.draws import DrawnRows
from vllm_diffusion.sampling.logprobs import NOT_ASKED, AcceptedLogprobs, LogprobsSnapshot
from vllm_diffusion.sampling.ops import CUTS, LOGITS_OPS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.sampling_params import SamplingParams
    from vllm.v1.outputs import LogprobsTensors
    from vllm.v1.worker.gpu.states import RequestState

    from vllm_diffusion.batch.canvases import Canvases
    from vllm_diffusion.batch.slots import RequestParams
    from vllm_diffusion.denoise.canvas import Canvas
    from vllm_diffusion.denoise.step import StepRule


class LogitsOps:
    """The wishes of all slots, and what a step owes to them."""

    def __init__(
        self, params: RequestParams, req_states: RequestState, canvas: Canvas, logprobs_mode: str
    ) -> None:
        slots = SlotState(len(canvas.step_S), params, req_states, canvas)
        self.ops = [make(slots) for make in LOGITS_OPS]
        self.drawn = DrawnRows(slots, CUTS)
        self.logprobs = AcceptedLogprobs(params, canvas, logprobs_mode, self.drawn.temper)
        # Of the logits or of scores; what is drawn is asked for by a temperature.
        self.asks_S: NDArray[np.bool_] = np.zeros(slots.num_slots, dtype=np.bool_)

    def add(self, slot: int, sampling: SamplingParams) -> None:
        """Write the wishes of the request that now owns ``slot``."""
        self.asks_S[slot] = False
        for op in self.ops:
            op.add(slot, sampling)
        self.drawn.add(slot, sampling)
        self.logprobs.add(slot, sampling)
        has_scores = self.logprobs.num_top_S[slot] != NOT_ASKED
        self.asks_S[slot] = has_scores or any(op.asks_S[slot] for op in self.ops)

    def remove(self, slot: int) -> None:
        """The slot's request is gone."""
        self.asks_S[slot] = False
        self.logprobs.remove(slot)

    def copy_to_device(self) -> None:
        """Make what was written visible to the next step."""
        for op in self.ops:
            op.copy_to_device()
        self.drawn.copy_to_device()
        self.logprobs.named.copy_to_device()

    def are_asked(self, slot_R: NDArray[np.intp]) -> bool:
        """Does any request of the batch ask for anything of its logits or scores."""
        return bool(self.asks_S[slot_R].any())

    def before(self, logits_NV: Tensor, batch: Canvases) -> LogprobsSnapshot | None:
        """Change the logits in place; the snapshot that ``after`` needs."""
        if not self.are_asked(batch.slot_B):
            return None
        snapshot = self.logprobs.note(logits_NV, batch) if self.logprobs.is_raw else None
        for op in self.ops:
            if op.asks_S[batch.slot_B].any():
                op.apply(logits_NV, batch)
        return snapshot if self.logprobs.is_raw else self.logprobs.note(logits_NV, batch)

    def has_rule(self, slot: int) -> bool:
        """Does the slot's request ask for something that only the step in torch heeds."""
        return any(op.has_rule(slot) for op in self.ops)

    def rules(self, batch: Canvases) -> list[StepRule]:
        """What the step has to heed once the candidates are known."""
        if not self.are_asked(batch.slot_B):
            return []
        return [rule for op in self.ops if (rule := op.rule(batch)) is not None]

    def after(
        self, snapshot: LogprobsSnapshot | None, tokens_RL: Tensor, num_emitted_R: Tensor
    ) -> LogprobsTensors | None:
        """The log-probabilities that the runner hands on with the step's tokens."""
        if snapshot is None:
            return None
        return self.logprobs.result(snapshot, tokens_RL, num_emitted_R)
