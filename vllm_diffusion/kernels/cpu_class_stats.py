"""``structured.class_stats`` and ``class_draws`` in C++ (``csrc/include/class_stats.h``).

Shape suffixes: N rows of the step's logits, P of them that are read, V vocabulary, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vllm_diffusion.kernels.cpu_row_stats import DTYPE_CODES
from vllm_diffusion.kernels.library import LEVELS, required

if TYPE_CHECKING:
    from vllm_diffusion.structured.token_classes import TokenClasses


def order_classes(
    class_V: NDArray[np.int32], num_classes: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Tokens by class, ascending in each, and where each class begins among them (C + 1,)."""
    order_V = np.empty_like(class_V)
    border_C = np.empty(num_classes + 1, np.int64)
    required("order_classes").functions.vd_order_classes(
        class_V.ctypes.data,
        len(class_V),
        num_classes,
        order_V.ctypes.data,
        border_C.ctypes.data,
    )
    return order_V, border_C


def _rows(
    logits_NV: Tensor,
    row_P: NDArray[np.int64],
    classes_P: Sequence[TokenClasses],
    num_classes: int,
    excluded: int,
    level: str | None,
    kept: list[Any],
) -> tuple[Any, ...]:
    """The arguments that both functions begin with; ``kept`` holds what they point to."""
    assert logits_NV.stride(1) == 1
    row = np.ascontiguousarray(row_P, dtype=np.int64)
    fields = np.array([classes.fields for classes in classes_P], dtype=np.int64)  # or of no rows
    kept += [row, fields]
    best_level = required("class_stats").best_level
    return (
        logits_NV.data_ptr(),
        logits_NV.stride(0) * logits_NV.itemsize,
        DTYPE_CODES[logits_NV.dtype],
        excluded,
        best_level if level is None else LEVELS.index(level),
        torch.get_num_threads(),
        len(row),
        row.ctypes.data,
        fields.ctypes.data,
        num_classes,
    )


def class_stats(
    logits_NV: Tensor,
    row_P: NDArray[np.int64],
    classes_P: Sequence[TokenClasses],
    num_classes: int,
    excluded: int,
    *,
    level: str | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As in the definition; no row is copied.

    Args:
        level: a name of ``LEVELS`` instead of the best one, for tests.
    """
    shape = (len(row_P), num_classes)
    kept: list[Any] = []
    arguments = _rows(logits_NV, row_P, classes_P, num_classes, excluded, level, kept)
    # Allocated by NumPy: see ``cpu_row_stats``.
    total, weighted = (torch.from_numpy(np.empty(shape)) for _ in range(2))
    first, second = (torch.from_numpy(np.empty(shape, np.float32)) for _ in range(2))
    token = torch.from_numpy(np.empty(shape, np.int64))
    found = (total, weighted, first, second, token)
    required("class_stats").functions.vd_class_stats(
        *arguments, *(tensor.data_ptr() for tensor in found)
    )
    return found


def class_draws(
    logits_NV: Tensor,
    row_P: NDArray[np.int64],
    classes_P: Sequence[TokenClasses],
    num_classes: int,
    excluded: int,
    temperature_P: Tensor,
    lowest_P: Tensor,
    key_P: Tensor,
    *,
    level: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As in the definition, but for what a row's random numbers are keyed by.

    Args:
        temperature_P: float32.
        lowest_P: float32; tempered logits below it are left out.
        key_P: int64, of ``denoise.random.key_of``.
        level: as above.
    """
    shape = (len(row_P), num_classes)
    kept: list[Any] = []
    arguments = _rows(logits_NV, row_P, classes_P, num_classes, excluded, level, kept)
    total, value = (torch.from_numpy(np.empty(shape)) for _ in range(2))
    token = torch.from_numpy(np.empty(shape, np.int64))
    given = [tensor.contiguous() for tensor in (temperature_P, lowest_P, key_P)]
    found = (total, value, token)
    required("class_draws").functions.vd_class_draws(
        *arguments, *(tensor.data_ptr() for tensor in (*given, *found))
    )
    return found
