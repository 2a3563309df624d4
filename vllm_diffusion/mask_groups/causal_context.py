"""Causal context: N tokens read from left to right, and behind them a canvas that they do not see.

The canvas sees the context and all of itself. Blocks are counted from the end of the prompt. K and
V of the canvas are scratch; the next seed step makes them final.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_diffusion.mask_groups.base import Attended, Limits, MaskGroup
from vllm_diffusion.mask_groups.inputs import fill_finished_blocks
from vllm_diffusion.mask_groups.sequences import whole
from vllm_diffusion.mask_groups.spans import Phase, Progress, Span

if TYPE_CHECKING:
    from torch import Tensor

    from vllm_diffusion.batch.slots import RequestParams
    from vllm_diffusion.mask_groups.inputs import Inputs
    from vllm_diffusion.mask_groups.view import BatchView


class CausalContext(MaskGroup):
    """A context as an autoregressive model has it, and one block at its end."""

    name = "causal_context"
    has_causal_context = True

    @classmethod
    def limits(cls, canvas_length: int, max_model_len: int) -> Limits:
        return Limits(
            step_tokens=canvas_length + 1,
            why="a finished block and the token after it are computed together",
        )

    def canvas_end(self, last: int) -> int:
        # A canvas is a whole block whatever ``max_tokens``, as the model was trained.
        return self.max_model_len

    def phase(self, known: int, progress: Progress) -> Phase:
        if self.has_seed and not progress.is_seeded:
            return Phase.SEED
        if progress.decode.policy != "self_speculation":
            return Phase.DENOISE
        return Phase.VERIFY if progress.is_drafted else Phase.DRAFT

    def span(self, known: int, progress: Progress) -> Span:
        if self.phase(known, progress) is Phase.SEED:
            return Span(end=known + 1, width=1, whole_until=known - 1, grain=1)
        end = min(known + progress.decode.block_length, progress.last)
        return Span(end=end, width=end - known, whole_until=known, grain=1)

    def resume(
        self,
        known: Any,
        block: Any,
        *,
        emitted: Any = 0,
        is_verify: Any = False,
        keeps_cache: Any = False,
    ) -> Any:
        # What a verification accepts was read causally, so it is final.
        return known + emitted * is_verify

    def note(self, phase: Phase, emitted: int, progress: Progress) -> None:
        progress.is_drafted = phase is Phase.DRAFT
        # A verification reads the next block's seed as well.
        progress.is_seeded = phase is Phase.VERIFY or emitted == 0

    def attended(self, view: BatchView, params: RequestParams) -> Attended:
        is_causal_R = view.num_rows_R == 0
        for flag_R in (view.is_seed_R, view.is_verify_R):
            if flag_R is not None:
                is_causal_R = is_causal_R | flag_R
        sequences = whole(view.query_start_loc, view.end_R)
        if is_causal_R.all() or not is_causal_R.any():
            return Attended(sequences, bool(is_causal_R[0]))
        return Attended(sequences, is_causal_R)

    def prepare(self, inputs: Inputs) -> Tensor:
        fill_finished_blocks(inputs)
        return inputs.rows_before_canvas(self.shift)
