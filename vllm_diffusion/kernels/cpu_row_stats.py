"""``row_stats`` in C++ (``csrc/include/row_stats.h``)."""

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.kernels.library import LEVELS, required
from vllm_diffusion.kernels.reference import RowStats, check_row_stats

DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def row_stats(logits_NV: Tensor, exclude_id: int = -1, *, level: str | None = None) -> RowStats:
    """``reference.row_stats`` for CPU tensors, in C++; one pass over the logits, no copy of them.

    Uses at most ``torch.get_num_threads()`` threads, and one for little work. Equal to the
    reference up to float32 rounding. Entries less likely than exp(-87) times the largest one do
    not enter the sums.

    Args:
        logits_NV: as in the reference, on the CPU.
        exclude_id: as in the reference.
        level: a name of ``LEVELS`` instead of the best one, for tests.

    Returns:
        RowStats of CPU tensors; its float fields share one allocation.

    Raises:
        ValueError: as in the reference; a tensor on another device; a level that this processor
            does not have.
        RuntimeError: the library is not usable.
    """
    functions, best_level, _ = required("row_stats")
    check_row_stats(logits_NV, exclude_id)
    if not logits_NV.is_cpu:
        raise ValueError(f"logits_NV: device {logits_NV.device} is not the CPU; pass logits.cpu()")
    chosen_level = best_level if level is None else _level_code(level, best_level)
    num_rows, vocab_size = logits_NV.shape
    # Allocated by NumPy: torch takes as long for the five as C++ for the rows of a small model.
    argmax_N = torch.from_numpy(np.empty(num_rows, np.int64))
    floats_4N = [torch.from_numpy(row_N) for row_N in np.empty((4, num_rows), np.float32)]
    functions.vd_row_stats(
        logits_NV.data_ptr(),
        num_rows,
        vocab_size,
        logits_NV.stride(0) * logits_NV.itemsize,
        DTYPE_CODES[logits_NV.dtype],
        exclude_id,
        chosen_level,
        torch.get_num_threads(),
        argmax_N.data_ptr(),
        floats_4N[0].data_ptr(),
    )
    return RowStats(argmax_N, *floats_4N)


def _level_code(level: str, best_level: int) -> int:
    available = LEVELS[: best_level + 1]
    if level not in available:
        raise ValueError(f"level: {level!r} is not available here; choose one of {available}")
    return available.index(level)
