"""Block-causal: i sees j iff ``j // B <= i // B``.

Blocks of B are aligned to the first token, so a prompt's tail is pinned in the
first canvas; a query covers whole blocks. With A = N // B * B, the canvas is
[A, A + B), whose first N - A tokens are pinned. The block before it rides along
if it has just been finished: the forward that makes its K and V final costs
nothing extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_diffusion.mask_groups.base import Attended, Limits, MaskGroup
from vllm_diffusion.mask_groups.inputs import fill_finished_blocks
from vllm_diffusion.mask_groups.sequences import split
from vllm_diffusion.mask_groups.spans import Phase, Progress, Span

if TYPE_CHECKING:
    from torch import Tensor

    from vllm_diffusion.batch.slots import RequestParams
    from vllm_diffusion.mask_groups.inputs import Inputs
    from vllm_diffusion.mask_groups.view import BatchView


class BlockCausal(MaskGroup):
    """Blocks from token 0 on; each sees those before it and all of itself."""

    name = "block_causal"
    is_aligned = True

    @classmethod
    def limits(cls, canvas_length: int, max_model_len: int) -> Limits:
        return Limits(
            unit=canvas_length,
            step_tokens=2 * canvas_length,
            why="a finished block and the next canvas are computed together",
        )

    @staticmethod
    def starts_block(known: Any, block: Any) -> Any:
        return known % block == 0

    @staticmethod
    def canvas_width(known: int, block: int) -> int:
        return block - known % block

    def phase(self, known: int, progress: Progress) -> Phase:
        needs_seed = self.has_seed and not progress.is_seeded
        if needs_seed and self.starts_block(known, progress.decode.block_length):
            return Phase.SEED
        return Phase.DENOISE

    def span(self, known: int, progress: Progress) -> Span:
        block = progress.decode.block_length
        if self.phase(known, progress) is Phase.SEED:
            # The seed is read off row N - 1, which a query that is cut short must leave.
            return Span(end=known + 1, width=1, whole_until=known - 1, grain=block)
        width = self.canvas_width(known, block)
        end = known + width
        return Span(end=end, width=width, whole_until=end - block, grain=block)

    def resume(
        self,
        known: Any,
        block: Any,
        *,
        emitted: Any = 0,
        is_verify: Any = False,
        keeps_cache: Any = False,
    ) -> Any:
        # Not behind the block, converged or not: its K and V count from the next forward, the
        # first whose inputs are final.
        return known // block * block

    def note(self, phase: Phase, emitted: int, progress: Progress) -> None:
        progress.is_seeded = emitted == 0 and (phase is Phase.SEED or progress.is_seeded)

    def attended(self, view: BatchView, params: RequestParams) -> Attended:
        block_length_R = params.block_length.np[view.slot_R]
        return Attended(split(view.query_start_loc, view.start_R, block_length_R))

    def prepare(self, inputs: Inputs) -> Tensor:
        fill_finished_blocks(inputs)
        return inputs.rows_before_canvas(self.shift)
