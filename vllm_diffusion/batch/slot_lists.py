"""Lists by slot, of any length, as arrays that a step can gather from.

Nothing is allocated before somebody has a list. Shape suffixes: S slots, Q requests that ask, K
entries of the longest list so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.device import SlotArray, slot_array

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SlotLists:
    """One list a slot; a row repeats the list's last entry up to the longest one's length."""

    def __init__(self, num_slots: int, dtype: torch.dtype = torch.int64) -> None:
        self.dtype = dtype
        self.length_S: NDArray[np.int64] = np.zeros(num_slots, dtype=np.int64)
        self.values: SlotArray | None = None
        self._is_stale = False

    def write(self, slot: int, entries: Sequence[float]) -> None:
        """Replace the slot's list; an empty one asks for nothing."""
        self.length_S[slot] = len(entries)
        if not entries:
            return
        width = 0 if self.values is None else self.values.np.shape[1]
        if len(entries) > width:
            longer = slot_array((len(self.length_S), 2 * len(entries)), self.dtype)
            if self.values is not None:
                longer.np[:, :width] = self.values.np
                longer.np[:, width:] = self.values.np[:, -1:]
            self.values = longer
        assert self.values is not None
        self.values.np[slot, : len(entries)] = entries
        self.values.np[slot, len(entries) :] = entries[-1]
        self._is_stale = True

    def copy_to_device(self) -> None:
        """Make what was written visible to the next step."""
        if self.values is not None and self._is_stale:
            self.values.copy_to_uva()
            self._is_stale = False

    def of(self, slot_Q: Tensor) -> Tensor:
        """The lists of ``slot_Q``, (Q, K); some slot has one."""
        assert self.values is not None
        return self.values.gpu[slot_Q]
