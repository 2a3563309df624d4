"""What callers use: each operation with its best implementation for the tensor at hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from vllm_diffusion.kernels import cpu_row_stats, library, reference
from vllm_diffusion.kernels.reference import RowStats
from vllm_diffusion.kernels.tiles import rows_at_a_time, tiles

Implementation = Literal["cpp", "torch"]

_forced: Implementation | None = None


def uses_cpp(is_cpu: bool) -> bool:
    """Whether an operation runs in C++: on CPU tensors, when the library is usable."""
    if _forced is None:
        return is_cpu and library.library().functions is not None
    return _forced == "cpp"


def row_stats(logits_NV: Tensor, exclude_id: int = -1) -> RowStats:
    """Argmax, its probability, the runner-up's probability, entropy and log-sum-exp of each row.

    ``reference.row_stats`` is the definition, with shapes, dtypes, special values and errors. CPU
    tensors go through C++ when the library is usable, everything else through torch, which copies
    rows: so many at a time as ``tiles`` allows.
    """
    if uses_cpp(logits_NV.is_cpu):
        return cpu_row_stats.row_stats(logits_NV, exclude_id)
    reference.check_row_stats(logits_NV, exclude_id)
    num_rows, vocab_size = logits_NV.shape
    if num_rows <= rows_at_a_time(vocab_size):
        return reference.row_stats(logits_NV, exclude_id)
    parts = [
        reference.row_stats(logits_NV[part], exclude_id) for part in tiles(num_rows, vocab_size)
    ]
    return RowStats(*(torch.cat(column) for column in zip(*parts, strict=True)))


def active_row_stats() -> str:
    """What runs for a CPU tensor: ``"torch"``, or ``"cpp-"`` and a level of ``library.LEVELS``."""
    best_level = library.library().best_level
    return f"cpp-{library.LEVELS[best_level]}" if uses_cpp(is_cpu=True) else "torch"


def row_stats_reason() -> str:
    """Why ``active_row_stats`` is what it is, in one sentence."""
    return library.library().reason if _forced is None else f"forced to {_forced}"


@contextmanager
def forced(implementation: Implementation) -> Iterator[None]:
    """Use one implementation for every tensor within a ``with`` block, for tests."""
    global _forced
    previous, _forced = _forced, implementation
    try:
        yield
    finally:
        _forced = previous
