"""Lists of ids by slot, of any length, as arrays that a step can gather from.

Nothing is allocated before somebody has a list. Shape suffixes: S slots, Q slots asked for, K
entries of the longest list so far, W words of the most so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from vllm.v1.worker.gpu.buffer_utils import UvaBackedTensor

from vllm_diffusion.denoise.bad_words import ANY

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SlotLists:
    """One list a slot; a row repeats the list's last entry up to the longest one's length."""

    def __init__(self, num_slots: int, dtype: torch.dtype = torch.int64) -> None:
        self.dtype = dtype
        self.length_S: NDArray[np.int64] = np.zeros(num_slots, dtype=np.int64)
        self.values: UvaBackedTensor | None = None

    def write(self, slot: int, entries: Sequence[float]) -> None:
        """Replace the slot's list; an empty one asks for nothing."""
        self.length_S[slot] = len(entries)
        if not entries:
            return
        width = 0 if self.values is None else self.values.np.shape[1]
        if len(entries) > width:
            longer = UvaBackedTensor((len(self.length_S), 2 * len(entries)), dtype=self.dtype)
            if self.values is not None:
                longer.np[:, :width] = self.values.np
                longer.np[:, width:] = self.values.np[:, -1:]
            self.values = longer
        assert self.values is not None
        self.values.np[slot, : len(entries)] = entries
        self.values.np[slot, len(entries) :] = entries[-1]

    def copy_to_device(self) -> None:
        """Make what was written visible to the next step."""
        if self.values is not None:
            self.values.copy_to_uva()

    def of(self, slot_Q: Tensor) -> Tensor:
        """The lists of ``slot_Q``, (Q, K); some slot has one."""
        assert self.values is not None
        return self.values.gpu[slot_Q]


class SlotWords:
    """Words of several tokens by slot, as ``denoise.bad_words`` takes them."""

    def __init__(self, num_slots: int) -> None:
        self.num_S: NDArray[np.int64] = np.zeros(num_slots, dtype=np.int64)
        self.values: UvaBackedTensor | None = None

    def write(self, slot: int, words: Sequence[Sequence[int]]) -> None:
        """Replace the slot's words."""
        self.num_S[slot] = len(words)
        if words:
            self._make_room(len(words), max(map(len, words)))
        if self.values is not None:
            self.values.np[slot] = ANY
            for index, word in enumerate(words):
                self.values.np[slot, index, : len(word)] = word

    def _make_room(self, num_words: int, length: int) -> None:
        old = np.zeros((len(self.num_S), 0, 0)) if self.values is None else self.values.np
        if num_words <= old.shape[1] and length <= old.shape[2]:
            return
        shape = (len(old), max(num_words, old.shape[1]), max(length, old.shape[2]))
        self.values = UvaBackedTensor(shape, dtype=torch.int64)
        self.values.np.fill(ANY)
        self.values.np[:, : old.shape[1], : old.shape[2]] = old

    def copy_to_device(self) -> None:
        """Make what was written visible to the next step."""
        if self.values is not None:
            self.values.copy_to_uva()

    def of(self, slot_Q: Tensor) -> Tensor:
        """int64 (Q, W, K); some slot has words."""
        assert self.values is not None
        return self.values.gpu[slot_Q]
