"""``structured.class_stats`` in C++ (``csrc/include/class_stats.h``), for float32 on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vllm_diffusion.kernels.library import required


def class_stats(
    logits_NV: Tensor,
    row_R: NDArray[np.int64],
    class_RV: Sequence[NDArray[np.int32]],
    num_classes: int,
    excluded: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As in the definition; ``logits_NV`` is float32 and contiguous."""
    functions = required("class_stats").functions
    shape = (len(row_R), num_classes)
    # Allocated by NumPy: see ``cpu_row_stats``.
    total, weighted = (torch.from_numpy(np.empty(shape)) for _ in range(2))
    first, second = (torch.from_numpy(np.empty(shape, np.float32)) for _ in range(2))
    token = torch.from_numpy(np.empty(shape, np.int64))
    row = np.ascontiguousarray(row_R)
    classes = np.array([array.ctypes.data for array in class_RV], dtype=np.int64)
    functions.vd_class_stats(
        logits_NV.data_ptr(),
        logits_NV.shape[1],
        excluded,
        len(row),
        row.ctypes.data,
        classes.ctypes.data,
        num_classes,
        torch.get_num_threads(),
        total.data_ptr(),
        weighted.data_ptr(),
        first.data_ptr(),
        second.data_ptr(),
        token.data_ptr(),
    )
    return total, weighted, first, second, token
