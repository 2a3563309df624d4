"""What requests lay into their outputs, by slot: pinned tokens and drafts.

Written once when a request is added, and again into each canvas that starts. Nothing is allocated
before somebody lays something. Shape suffixes: S slots, B requests in the step, L canvas length, T
tokens of the batch, K positions of the longest seed so far.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.device import SlotArray, slot_array
from vllm_diffusion.batch.places import Places
from vllm_diffusion.denoise.laid import HELD, Laid, lay

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vllm_diffusion.denoise.canvas import Canvas
    from vllm_diffusion.request.seed_canvas import SeedCanvas

HOLE = -1
"""Entries of a seed: a hole, a draft's token, or a pinned one, which is ``HELD`` more."""
NOWHERE = -1


class Asked(NamedTuple):
    """What one request lays."""

    seed: SeedCanvas
    threshold: float
    """Of drafts: a token that is less probable is masked again."""
    stop_ids: Collection[int]
    """What ends its text."""


class LaidTokens:
    """Seeds of all slots, and what of them stands in the canvases."""

    def __init__(self, num_slots: int, mask_id: int) -> None:
        self.mask_id = mask_id
        # For the host alone.
        self.is_laid_S = np.zeros(num_slots, dtype=np.bool_)
        self.last_pin_S: NDArray[np.int64] = np.full(num_slots, NOWHERE, dtype=np.int64)
        self.has_holes_S = np.zeros(num_slots, dtype=np.bool_)
        """In front of the last pinned position."""
        self.seeds: SlotArray | None = None
        self.threshold: SlotArray | None = None
        self._is_stale = False
        self.places = Places(num_slots)
        self.draft_SL: Tensor
        """bool. Canvas positions that hold a draft which the model has not read."""
        self.pinned_SL: Tensor
        """bool. Canvas positions that are held."""

    def add(self, slot: int, asked: Asked | None) -> None:
        """Write what the request that now owns ``slot`` lays, if only that it lays nothing."""
        if self.is_laid_S[slot] and self.seeds is not None:
            self.seeds.np[slot].fill(HOLE)
            self._is_stale = True
        self.is_laid_S[slot] = asked is not None
        self.last_pin_S[slot] = NOWHERE
        self.has_holes_S[slot] = False
        self.places.follows_S[slot] = asked is not None and asked.seed.follows
        if asked is None:
            return
        row = self._row(slot, asked)
        pinned = list(asked.seed.pinned)
        if pinned:
            self.last_pin_S[slot] = pinned[-1]
            self.has_holes_S[slot] = len(pinned) <= pinned[-1]
        seeds = self._room(len(row))
        seeds.np[slot].fill(HOLE)
        seeds.np[slot, : len(row)] = row
        assert self.threshold is not None
        self.threshold.np[slot] = asked.threshold
        self._is_stale = True

    def _row(self, slot: int, asked: Asked) -> NDArray[np.int64]:
        row = np.array(asked.seed.tokens, dtype=np.int64)
        pinned = np.array(asked.seed.pinned, dtype=np.int64)
        is_hole = row == self.mask_id
        if len(pinned):
            # A draft may not end the text in front of what is held.
            is_hole[: pinned[-1]] |= np.isin(row[: pinned[-1]], list(asked.stop_ids))
        held = row[pinned] + HELD
        row[is_hole] = HOLE
        row[pinned] = held
        return row

    def _room(self, length: int) -> SlotArray:
        width = 0 if self.seeds is None else self.seeds.np.shape[1]
        if self.seeds is None or length > width:
            wider = slot_array((len(self.is_laid_S), max(length, 2 * width)), torch.int64)
            wider.np.fill(HOLE)
            if self.seeds is not None:
                wider.np[:, :width] = self.seeds.np
            self.seeds = wider
        if self.threshold is None:
            self.threshold = slot_array(len(self.is_laid_S), torch.float32)
        return self.seeds

    def copy_to_device(self) -> None:
        """Make what was written visible to the next step."""
        if self._is_stale:
            assert self.seeds is not None and self.threshold is not None
            self.seeds.copy_to_uva()
            self.threshold.copy_to_uva()
            self._is_stale = False

    def start(
        self,
        slot: int,
        canvas: Canvas,
        blocks: Sequence[Sequence[int]],
        width: int,
        *,
        has_seed: bool,
    ) -> None:
        """Lay the first canvas of the request that now owns ``slot``, which is a fresh one.

        Args:
            slot: of the request.
            canvas: of all slots.
            blocks: tokens that the request has emitted already, block by block.
            width: positions of the canvas.
            has_seed: its first token is the autoregressive one.
        """
        if self.seeds is not None and not hasattr(self, "draft_SL"):
            self.draft_SL = torch.zeros_like(canvas.masked_SL)
            self.pinned_SL = torch.zeros_like(canvas.masked_SL)
        if not self.is_laid_S[slot]:
            return
        assert self.seeds is not None
        length = canvas.tokens_SL.shape[1]
        row = np.full(length, HOLE, dtype=np.int64)
        first = sum(map(len, blocks))
        if self.places.follows_S[slot]:
            first = self.places.start(slot, self.seeds.np[slot], blocks, canvas.tokens_SL.device)
        piece = self.seeds.np[slot, first : first + length]
        row[: len(piece)] = piece
        seed_1L = torch.from_numpy(row)[None].to(canvas.tokens_SL.device)
        width_1 = torch.full((1,), width, device=seed_1L.device)
        new = lay(seed_1L, width_1, self.mask_id, has_seed=has_seed)
        canvas.tokens_SL[slot], canvas.masked_SL[slot] = new.tokens_BL[0], ~new.pinned_BL[0]
        self.draft_SL[slot], self.pinned_SL[slot] = new.draft_BL[0], new.pinned_BL[0]

    def are_asked(self, slot_R: NDArray[np.int64]) -> bool:
        """Does any request of the batch lay something."""
        return bool(self.is_laid_S[slot_R].any())

    def at(self, slot_T: Tensor, position_T: Tensor) -> Tensor:
        """Entries of seeds at output positions, int64; the two broadcast to each other."""
        assert self.seeds is not None
        width = self.seeds.np.shape[1]
        entry_T = self.seeds.gpu[slot_T, position_T.clamp(0, width - 1)]
        return torch.where((position_T >= 0) & (position_T < width), entry_T, HOLE)

    def pinned_at(self, slot_T: Tensor, position_T: Tensor) -> Tensor:
        """What the model reads at output positions behind its canvas: held tokens, else masks."""
        entry_T = self.at(slot_T, position_T)
        return torch.where(entry_T >= HELD, entry_T - HELD, self.mask_id)

    def rule(
        self,
        slot_B: Tensor,
        is_laid_B: Tensor,
        prob_BL: Tensor,
        rows_B: Tensor,
        step_B: Tensor,
        follows_B: Tensor | None = None,
    ) -> Laid:
        """What a step has to heed.

        Args:
            slot_B: of the canvases.
            is_laid_B: bool (B,), those of requests that lay something.
            prob_BL: float32, of the tokens that the canvases hold.
            rows_B: int64 (B,), leading positions that have logits.
            step_B: int64 (B,), steps of their blocks so far.
            follows_B: bool (B,), those whose drafts follow; None where there are none.
        """
        assert self.threshold is not None
        is_laid_B1 = is_laid_B[:, None]
        return Laid(
            draft_BL=self.draft_SL[slot_B] & is_laid_B1,
            pinned_BL=self.pinned_SL[slot_B] & is_laid_B1,
            is_laid_B=is_laid_B,
            prob_BL=prob_BL,
            threshold_B=self.threshold.gpu[slot_B],
            num_rows_B=rows_B,
            step_B=step_B,
            mask_id=self.mask_id,
            follows_B=follows_B,
        )

    def start_next(
        self,
        rule: Laid,
        slot_B: Tensor,
        canvas: tuple[Tensor, Tensor],
        emitted: tuple[Tensor, Tensor],
        position_B: Tensor,
        width_B: Tensor,
        *,
        has_seed: bool,
    ) -> tuple[Tensor, Tensor]:
        """Lay the canvases behind those that were emitted.

        Args:
            rule: of the step.
            slot_B: of the canvases.
            canvas: their tokens and masks (B, L), fresh where something was emitted.
            emitted: tokens (B, L), and how many of them (B,).
            position_B: int64 (B,), the output position with which a fresh one starts.
            width_B: int64 (B,), its positions.
            has_seed: its first token is the autoregressive one.

        Returns:
            Tokens and masks of the canvases.
        """
        tokens_BL, masked_BL = canvas
        is_done_B = emitted[1] > 0
        if rule.follows_B is not None:
            place_B = self.places.move(self.at, slot_B, *emitted)
            position_B = torch.where(rule.follows_B, place_B, position_B)
        position_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
        seed_BL = self.at(slot_B[:, None], position_B[:, None] + position_L)
        new = lay(seed_BL, width_B, self.mask_id, has_seed=has_seed)
        is_new_B1 = (is_done_B & rule.is_laid_B)[:, None]
        self.draft_SL[slot_B] = torch.where(is_new_B1, new.draft_BL, rule.draft_BL & ~rule.read_BL)
        self.pinned_SL[slot_B] = torch.where(is_new_B1, new.pinned_BL, rule.pinned_BL)
        return (
            torch.where(is_new_B1, new.tokens_BL, tokens_BL),
            torch.where(is_new_B1, ~new.pinned_BL, masked_BL),
        )
