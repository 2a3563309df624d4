"""Binding to the compiled library ``_cpu_ops``, through ctypes.

The library knows nothing of torch or Python: it takes pointers and sizes, so one build serves every
version of both. It is linked against libgomp.so.1. Torch is imported first, and has that runtime
loaded, so both share it and its threads.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vllm_diffusion.kernels.reference import RowStats, check_row_stats

ABI_VERSION = 1
LEVELS = ("portable", "avx2", "avx512")
_DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


class Library(NamedTuple):
    """The result of loading: a function and the best level, or None and the reason.

    Attributes:
        function: ``vd_row_stats``, or None where the library is not usable.
        best_level: index in ``LEVELS`` of the best instruction set of this processor.
        reason: one sentence for a person.
    """

    function: Any
    best_level: int
    reason: str


def load_from(folder: Path) -> Library:
    """Load ``_cpu_ops*.so`` from a folder; never raises for a missing or unusable file."""
    path = next(iter(sorted(folder.glob("_cpu_ops*.so"))), None)
    if path is None:
        reason = "no compiled library is installed; reinstall where a C++17 compiler is found"
        return Library(None, -1, reason)
    try:
        handle = ctypes.CDLL(str(path))
    except OSError as error:
        return Library(None, -1, f"{path.name} does not load: {error}")
    if (version := handle.vd_abi_version()) != ABI_VERSION:
        reason = f"{path.name} has interface {version}, not {ABI_VERSION}; reinstall to rebuild"
        return Library(None, -1, reason)
    function = handle.vd_row_stats
    function.restype = None
    function.argtypes = [
        ctypes.c_void_p,  # logits
        ctypes.c_int64,  # rows
        ctypes.c_int64,  # columns
        ctypes.c_int64,  # bytes between rows
        ctypes.c_int,  # dtype
        ctypes.c_int64,  # excluded column
        ctypes.c_int,  # level
        ctypes.c_int,  # threads
        ctypes.c_void_p,  # argmax
        ctypes.c_void_p,  # stats
    ]
    best_level = handle.vd_best_level()
    return Library(function, best_level, f"{path.name} loaded, {LEVELS[best_level]} instructions")


@cache
def library() -> Library:
    """The library installed beside this file, loaded once."""
    return load_from(Path(__file__).parent)


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
    function, best_level, reason = library()
    if function is None:
        raise RuntimeError(f"C++ row_stats is not available: {reason}")
    check_row_stats(logits_NV, exclude_id)
    if not logits_NV.is_cpu:
        raise ValueError(f"logits_NV: device {logits_NV.device} is not the CPU; pass logits.cpu()")
    chosen_level = best_level if level is None else _level_code(level, best_level)
    num_rows, vocab_size = logits_NV.shape
    argmax_N = torch.empty(num_rows, dtype=torch.int64, device="cpu")
    stats_4N = torch.empty(4, num_rows, dtype=torch.float32, device="cpu")
    function(
        logits_NV.data_ptr(),
        num_rows,
        vocab_size,
        logits_NV.stride(0) * logits_NV.itemsize,
        _DTYPE_CODES[logits_NV.dtype],
        exclude_id,
        chosen_level,
        torch.get_num_threads(),
        argmax_N.data_ptr(),
        stats_4N.data_ptr(),
    )
    return RowStats(argmax_N, *stats_4N.unbind(0))


def _level_code(level: str, best_level: int) -> int:
    available = LEVELS[: best_level + 1]
    if level not in available:
        raise ValueError(f"level: {level!r} is not available here; choose one of {available}")
    return available.index(level)
