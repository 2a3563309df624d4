"""Full: every token sees every token of prompt and output, masks included.

Nothing is final before the end, so every exact step computes all of it: the
output is ``max_tokens`` long. Blocks are counted from the end of the prompt.
The approximate caches keep what the block's first forward computed outside of
the block, up to the block's start (``prefix``) or on both sides (``dual``).
A guided query holds the sequence twice (``guidance``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vllm_diffusion.mask_groups.base import Attended, Limits, MaskGroup
from vllm_diffusion.mask_groups.guidance import (
    longest_guided,
    second_start,
    split_guided,
    unconditional_offset,
)
from vllm_diffusion.mask_groups.inputs import (
    fill_whole_sequence,
    inner_rows,
    move_second_sequences,
)
from vllm_diffusion.mask_groups.sequences import whole
from vllm_diffusion.mask_groups.spans import Phase, Progress, Span

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vllm_diffusion.batch.slots import RequestParams
    from vllm_diffusion.mask_groups.inputs import Inputs
    from vllm_diffusion.mask_groups.view import BatchView


class Full(MaskGroup):
    """Prompt and whole output at once."""

    name = "full"
    recomputes = True

    @classmethod
    def limits(cls, canvas_length: int, max_model_len: int) -> Limits:
        return Limits(
            step_tokens=max_model_len,
            why="a full-attention model computes whole sequences",
            grows_budget=True,
            # The K and V of a prompt depend on what follows.
            shares_pages=False,
        )

    def longest(self, *, is_guided: bool) -> int:
        return longest_guided(self.max_model_len, self.page) if is_guided else self.max_model_len

    def phase(self, known: int, progress: Progress) -> Phase:
        return Phase.DENOISE

    def span(self, known: int, progress: Progress) -> Span:
        width = min(progress.decode.block_length, progress.last - known)
        is_dual = progress.is_warm and progress.decode.kv_cache == "dual"
        end = known + width if is_dual else progress.last
        if progress.decode.guidance_scale:
            end += int(second_start(progress.last, self.page))
        return Span(end=end, width=width, whole_until=0, grain=1)

    def resume(
        self,
        known: Any,
        block: Any,
        *,
        emitted: Any = 0,
        is_verify: Any = False,
        keeps_cache: Any = False,
    ) -> Any:
        # Until the block converges, a cache stays; row N - 1 is computed again where it predicts
        # token N.
        return (known - self.shift) * (keeps_cache & (emitted == 0))

    def note(self, phase: Phase, emitted: int, progress: Progress) -> None:
        progress.is_warm = emitted == 0 and progress.decode.kv_cache != "exact"

    def _length(self, slot_R: NDArray[np.int64], params: RequestParams) -> NDArray[np.int64]:
        """Tokens of prompt and whole output, int64 (R,); a guided request holds them twice."""
        length = np.minimum(params.max_len.np[slot_R], self.max_model_len)
        guided = np.minimum(length, self.longest(is_guided=True))
        return np.where(params.guidance[slot_R] > 0, guided, length)

    def attended(self, view: BatchView, params: RequestParams) -> Attended:
        # All of the sequence has K and V, though a cached step computes a part.
        length_R = self._length(view.slot_R, params)
        is_guided_R = params.guidance[view.slot_R] > 0
        if is_guided_R.any():
            sequences, shift_S = split_guided(
                view.query_start_loc, length_R, is_guided_R, self.page
            )
            return Attended(sequences, page_shift_S=shift_S)
        return Attended(whole(view.query_start_loc, np.maximum(view.end_R, length_R)))

    def prepare(self, inputs: Inputs) -> Tensor:
        view, params = inputs.view, inputs.params
        is_guided_R = params.guidance[view.slot_R] > 0
        hides_prompt_T = second_R = None
        if is_guided_R.any():
            second_R = second_start(self._length(view.slot_R, params), self.page)
            offset = unconditional_offset(view, np.where(is_guided_R, second_R, view.end_R))
            hides_prompt_T = move_second_sequences(inputs, offset)
        fill_whole_sequence(inputs, hides_prompt_T)
        rows_N = inner_rows(inputs, self.shift)
        if second_R is not None:
            # The unconditional rows of guided canvases, behind all others.
            of_request = np.repeat(np.arange(len(is_guided_R)), view.num_rows_R)
            row = np.flatnonzero(is_guided_R[of_request])
            host = np.stack((row, second_R[of_request[row]])).astype(np.int64)
            row_G, second_G = inputs.to_device(host)
            rows_N = torch.cat((rows_N, rows_N[row_G] + second_G))
        return rows_N
