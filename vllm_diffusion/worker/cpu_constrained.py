"""Constrained requests in the CPU's step: which of them C++ follows, and where each of them stands.

C++ follows texts that an automaton over tokens holds, without thoughts in front. Where such a text
stands is written down twice: in the canvas's own fields, for the step in torch, and in a row of
integers, for the step in C++. One of the two is the true one, and is copied to the other when the
other step is taken. What the automaton cannot decide, C++ leaves to the canvas.

Shape suffixes: S slots, R requests in the batch.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vllm_diffusion.kernels.cpu_constrained import ConstrainedDenoiser, Follow
from vllm_diffusion.structured import block_text
from vllm_diffusion.structured.dfa_matcher import TokenDfaMatcher
from vllm_diffusion.structured.frontier import ConstrainedCanvas

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch import Tensor

    from vllm_diffusion.denoise.canvas import Canvas
    from vllm_diffusion.isolation.failures import Failures
    from vllm_diffusion.kernels.cpu_denoise import Denoiser, Outcome, Requests


class CpuConstraints:
    """Rows of where texts stand, by slot.

    Args:
        num_slots: S.
        constrained: the canvases of constrained requests, by slot.
        failures: by slot.
    """

    def __init__(
        self, num_slots: int, constrained: dict[int, ConstrainedCanvas], failures: Failures
    ) -> None:
        self.constrained, self.failures = constrained, failures
        self.follow_SF = np.zeros((num_slots, len(Follow)), dtype=np.int64)
        self._is_row_true: set[int] = set()

    def can_follow(self, slot: int) -> bool:
        """Does C++ follow the slot's text?"""
        canvas = self.constrained.get(slot)
        return type(canvas) is ConstrainedCanvas and type(canvas.matcher) is TokenDfaMatcher

    def forget(self, slot: int) -> None:
        """The slot's request is gone."""
        self._is_row_true.discard(slot)
        self.follow_SF[slot] = 0

    def to_rows(self, slots: Iterable[int]) -> None:
        """Make the rows the true ones."""
        for slot in slots:
            if slot in self._is_row_true or slot not in self.constrained:
                continue
            canvas = self.constrained[slot]
            matcher, start = canvas.matcher, canvas.start
            assert isinstance(matcher, TokenDfaMatcher)
            assert start is None or isinstance(start, TokenDfaMatcher)
            self.follow_SF[slot] = (
                matcher.tables.native.address,
                matcher.state,
                -1 if start is None else start.state,
                canvas.frontier,
                canvas.num_left,
                canvas.is_ending,
                canvas.block_length,
            )
            self._is_row_true.add(slot)

    def to_canvases(self, slots: Iterable[int]) -> None:
        """Make the canvases the true ones."""
        if not self._is_row_true:
            return
        for slot in slots:
            if slot in self._is_row_true:
                self._is_row_true.remove(slot)
                self.failures.run(slot, "A constrained canvas", partial(self._read, slot))

    def _read(self, slot: int) -> None:
        canvas, row = self.constrained[slot], self.follow_SF[slot].tolist()
        self.follow_SF[slot] = 0
        matcher = canvas.matcher
        assert isinstance(matcher, TokenDfaMatcher)
        state, start = row[Follow.STATE], row[Follow.START]
        canvas.resume(
            TokenDfaMatcher(matcher.tables, state),
            None if start < 0 else TokenDfaMatcher(matcher.tables, start),
            frontier=row[Follow.FRONTIER],
            num_left=row[Follow.NUM_LEFT],
            is_ending=bool(row[Follow.IS_ENDING]),
        )

    def run(
        self, denoiser: Denoiser, canvas: Canvas, logits_NV: Tensor, requests: Requests
    ) -> Outcome:
        """One step of a batch all of whose constrained requests C++ follows."""
        slot_R = requests.slot_R.numpy()
        self.to_rows(slot_R.tolist())
        step = ConstrainedDenoiser(denoiser, self.follow_SF, block_text.TRUSTED)
        is_left_R = step.fill(logits_NV, requests)
        if is_left_R.any():
            width_R = np.diff(requests.row_border_R.numpy()[: len(slot_R) + 1])
            self._follow(canvas, slot_R, is_left_R, width_R)
        outcome, is_left_R = step.converge(requests)
        if is_left_R.any():
            block_R = self.follow_SF[slot_R, Follow.BLOCK_LENGTH]
            self._follow(canvas, slot_R, is_left_R, block_R)
        return outcome

    def _follow(
        self,
        canvas: Canvas,
        slot_R: NDArray[np.int64],
        is_left_R: NDArray[np.uint8],
        end_R: NDArray[np.integer[Any]],
    ) -> None:
        """Walk what C++ has left, on canvases from their start to an end."""
        for r in is_left_R.nonzero()[0].tolist():
            slot, end = int(slot_R[r]), int(end_R[r])
            self.to_canvases([slot])
            row_tokens, row_masked = canvas.tokens_SL[slot].numpy(), canvas.masked_SL[slot].numpy()
            tokens, masked = row_tokens.tolist(), row_masked.tolist()
            constrained = self.constrained[slot]
            self.failures.run(
                slot,
                "A constrained canvas",
                partial(constrained.follow, tokens, masked, end),
            )
            if slot in self.failures.of_slot:
                # Finished, so that the step that says so is this one.
                tokens[:end], masked[:end] = [0] * end, [False] * end
            else:
                self.to_rows([slot])
            row_tokens[:], row_masked[:] = tokens, masked
