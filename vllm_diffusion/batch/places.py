"""Where in their drafts the texts of requests have got to, by slot, for drafts that follow them.

Nothing is allocated before somebody sends such a draft. Shape suffixes: S slots, B requests in the
step, L canvas length, C tokens of context, K tokens of the longest draft, W a draft's places around
one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.denoise.following import (
    CONTEXT,
    NOTHING,
    REACH,
    next_place,
    next_tail,
    window_at,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Places:
    """The place of each slot's canvas in its draft, and the end of the text in front of it."""

    def __init__(self, num_slots: int) -> None:
        self.follows_S = np.zeros(num_slots, dtype=np.bool_)
        """For the host alone."""
        self.place_S: Tensor
        self.tail_SC: Tensor

    def start(
        self,
        slot: int,
        draft: NDArray[np.int64],
        blocks: Sequence[Sequence[int]],
        device: torch.device,
    ) -> int:
        """Where the draft goes on behind blocks that are decoded, as step by step it has gone.

        A request that lost its K and V comes here with some; it takes about 0.1 ms a block.
        """
        if not hasattr(self, "place_S"):
            num_slots = len(self.follows_S)
            self.place_S = torch.zeros(num_slots, dtype=torch.int64, device=device)
            self.tail_SC = torch.full((num_slots, CONTEXT), NOTHING, device=device)
        padded = np.pad(draft, (REACH + CONTEXT, REACH + CONTEXT), constant_values=-1)
        draft_K = torch.from_numpy(padded)
        tail_1C, place_1 = torch.full((1, CONTEXT), NOTHING), torch.zeros(1, dtype=torch.int64)
        for block in blocks:
            num_1 = torch.tensor([len(block)])
            tail_1C = next_tail(tail_1C, torch.tensor([list(block)]), num_1)
            place_1 = place_1 + num_1
            window_1W = draft_K[(window_at(place_1) + REACH + CONTEXT).clamp(0, len(draft_K) - 1)]
            place_1 = next_place(window_1W, tail_1C, place_1)
        self.place_S[slot], self.tail_SC[slot] = place_1[0].to(device), tail_1C[0].to(device)
        return int(place_1)

    def move(
        self,
        draft_at: Callable[[Tensor, Tensor], Tensor],
        slot_B: Tensor,
        tokens_BL: Tensor,
        num_B: Tensor,
    ) -> Tensor:
        """int64 (B,): the places behind the first ``num_B`` of ``tokens_BL``, where any are.

        Args:
            draft_at: entries of the drafts of slots at places.
            slot_B: of the requests.
            tokens_BL: int64, what was decoded.
            num_B: int64, how much of it is emitted.
        """
        tail_BC = next_tail(self.tail_SC[slot_B], tokens_BL, num_B)
        place_B = self.place_S[slot_B]
        expected_B = place_B + num_B
        window_BW = draft_at(slot_B[:, None], window_at(expected_B))
        moved_B = torch.where(num_B > 0, next_place(window_BW, tail_BC, expected_B), place_B)
        self.tail_SC[slot_B], self.place_S[slot_B] = tail_BC, moved_B
        return moved_B
