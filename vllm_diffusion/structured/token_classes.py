"""The class of each token of a vocabulary, in the forms that different readers of logits want.

Shape suffixes: V vocabulary, C classes.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vllm_diffusion.kernels.cpu_class_stats import order_classes


class TokenClasses:
    """Each form is made when it is first asked for, and kept.

    Args:
        class_V: int32, contiguous, never changed again.
        num_classes: C; classes may be empty.
    """

    def __init__(self, class_V: NDArray[np.int32], num_classes: int) -> None:
        self.class_V, self.num_classes = class_V, num_classes
        self._on: dict[torch.device, Tensor] = {}

    @cached_property
    def order(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Tokens (V,) by class, and where each class begins among them (C + 1,): for C++."""
        return order_classes(self.class_V, self.num_classes)

    @cached_property
    def fields(self) -> NDArray[np.int64]:
        """``vd::TokenClasses``: addresses, and the number of classes."""
        order_V, border_C = self.order
        addresses = [array.ctypes.data for array in (order_V, border_C)]
        return np.array([*addresses, self.num_classes], dtype=np.int64)

    def on(self, device: torch.device) -> Tensor:
        """int32 (V,), for torch."""
        if device not in self._on:
            self._on[device] = torch.from_numpy(self.class_V).to(device)
        return self._on[device]
