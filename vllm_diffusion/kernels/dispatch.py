"""What callers use: each operation with its best implementation for the tensor at hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import Tensor

from vllm_diffusion.kernels import cpu, reference
from vllm_diffusion.kernels.reference import RowStats

Implementation = Literal["cpp", "torch"]

_forced: Implementation | None = None


def row_stats(logits_NV: Tensor, exclude_id: int = -1) -> RowStats:
    """Argmax, its probability, the runner-up's probability, entropy and log-sum-exp of each row.

    ``reference.row_stats`` is the definition, with shapes, dtypes, special values and errors. CPU
    tensors go through C++ when the library is usable, everything else through torch.
    """
    if _forced is None:
        use_cpp = logits_NV.is_cpu and cpu.library().function is not None
    else:
        use_cpp = _forced == "cpp"
    if use_cpp:
        return cpu.row_stats(logits_NV, exclude_id)
    return reference.row_stats(logits_NV, exclude_id)


def active_row_stats() -> str:
    """What runs for a CPU tensor: ``"torch"``, or ``"cpp-"`` and a level of ``cpu.LEVELS``."""
    library = cpu.library()
    is_cpp = library.function is not None if _forced is None else _forced == "cpp"
    return f"cpp-{cpu.LEVELS[library.best_level]}" if is_cpp else "torch"


def row_stats_reason() -> str:
    """Why ``active_row_stats`` is what it is, in one sentence."""
    return cpu.library().reason if _forced is None else f"forced to {_forced}"


@contextmanager
def forced(implementation: Implementation) -> Iterator[None]:
    """Use one implementation for every tensor within a ``with`` block, for tests."""
    global _forced
    previous, _forced = _forced, implementation
    try:
        yield
    finally:
        _forced = previous
