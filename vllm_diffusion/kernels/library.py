"""The compiled library ``_cpu_ops``, loaded through ctypes.

The library knows nothing of torch or Python: it takes pointers and sizes, so one build serves every
version of both. It is linked against libgomp.so.1. Torch is imported first, and has that runtime
loaded, so both share it and its threads.
"""

import ctypes
from ctypes import c_double, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch  # noqa: F401  (its OpenMP runtime, see above)

ABI_VERSION = 8
LEVELS = ("portable", "avx2", "avx512")
_LOGITS = (
    c_void_p,  # address
    c_int64,  # rows
    c_int64,  # columns
    c_int64,  # bytes between rows
    c_int,  # dtype
)
_REQUESTS = (
    c_int64,  # how many
    c_void_p,  # slot
    c_void_p,  # borders of their rows of logits
    c_void_p,  # query positions behind the final K and V
    c_void_p,  # out: tokens
    c_void_p,  # out: how many of them are emitted
    c_void_p,  # out: how many query positions are rejected
)
_CLASS_ROWS = (
    c_void_p,  # logits
    c_int64,  # bytes between rows
    c_int,  # dtype
    c_int64,  # excluded column
    c_int,  # level
    c_int,  # threads
    c_int64,  # rows
    c_void_p,  # which rows
    c_void_p,  # classes of each row's tokens
    c_int64,  # classes
)
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "vd_row_stats": (
        *_LOGITS,
        c_int64,  # excluded column
        c_int,  # level
        c_int,  # threads
        c_void_p,  # out: argmax
        c_void_p,  # out: the other statistics
    ),
    "vd_denoise": (
        c_void_p,  # slots
        c_void_p,  # token of each row of the logits
        c_void_p,  # its probability
        c_void_p,  # the runner-up's
        c_void_p,  # entropy
        *_REQUESTS,
    ),
    "vd_denoise_logits": (
        c_void_p,  # slots
        *_LOGITS,
        c_int,  # level
        c_int,  # threads
        *_REQUESTS,
    ),
    "vd_posterior_sums": (
        c_void_p,  # automata and blocks
        c_void_p,  # sums of each class
        c_void_p,  # out: sums over the ways to an exit
        c_void_p,  # out: factors of each class, or null
    ),
    "vd_posterior_best": (
        c_void_p,  # automata and blocks
        c_void_p,  # maxima of each class
        c_void_p,  # out: classes of the best texts
        c_void_p,  # out: states in front of them
    ),
    "vd_posterior_path": (
        c_void_p,  # automata and blocks
        c_void_p,  # sums over the ways to an exit
        c_void_p,  # what is drawn of each class
        c_void_p,  # out: classes of the drawn texts
        c_void_p,  # out: states in front of them
    ),
    "vd_block_texts": (
        c_void_p,  # blocks
        c_int64,  # how many
        *_LOGITS,
        c_int64,  # excluded column
        c_int64,  # canvas length
        c_double,  # share of what the model expects that must be able to follow
        c_int,  # threads
        c_void_p,  # out: tokens
        c_void_p,  # out: their probabilities
        c_void_p,  # out: the runners-up's
        c_void_p,  # out: entropy
        c_void_p,  # out: positions that the text has a say in
        c_void_p,  # out: those where nothing else may stand
        c_void_p,  # out: those that wait
    ),
    "vd_constrained_fill": (
        c_void_p,  # slots
        c_void_p,  # where their texts stand
        *_LOGITS,
        c_int,  # level
        c_int,  # threads
        c_double,  # as above
        *_REQUESTS[:4],
        c_void_p,  # out: canvases that are left to Python
    ),
    "vd_constrained_settle": (
        c_void_p,  # slots
        c_void_p,  # where their texts stand
        *_REQUESTS,
        c_void_p,  # out: canvases that are left to Python
    ),
    "vd_order_classes": (
        c_void_p,  # class of each token
        c_int64,  # tokens
        c_int64,  # classes
        c_void_p,  # out: tokens by class
        c_void_p,  # out: where each class begins
    ),
    "vd_class_stats": (
        *_CLASS_ROWS,
        c_void_p,  # out: sums
        c_void_p,  # out: sums of p log p
        c_void_p,  # out: log-probability of the most probable token
        c_void_p,  # out: the runner-up's
        c_void_p,  # out: the most probable token
    ),
    "vd_class_draws": (
        *_CLASS_ROWS,
        c_void_p,  # temperatures
        c_void_p,  # what tempered logits must reach
        c_void_p,  # keys of the random numbers
        c_void_p,  # out: sums
        c_void_p,  # out: largest logit with its noise
        c_void_p,  # out: the drawn token
    ),
}
"""Arguments of the functions that return nothing."""


class Library(NamedTuple):
    """The result of loading: the functions and the best level, or None and the reason.

    Attributes:
        functions: has those of ``SIGNATURES`` as attributes; None where the library is not usable.
        best_level: index in ``LEVELS`` of the best instruction set of this processor.
        reason: one sentence for a person.
    """

    functions: Any
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
    for name, argtypes in SIGNATURES.items():
        function = getattr(handle, name)
        function.restype = None
        function.argtypes = argtypes
    best_level = handle.vd_best_level()
    return Library(handle, best_level, f"{path.name} loaded, {LEVELS[best_level]} instructions")


@cache
def library() -> Library:
    """The library installed beside this file, loaded once."""
    return load_from(Path(__file__).parent)


def required(operation: str) -> Library:
    """``library()``, when it is usable.

    Raises:
        RuntimeError: it is not, so C++ ``operation`` is not available.
    """
    found = library()
    if found.functions is None:
        raise RuntimeError(f"C++ {operation} is not available: {found.reason}")
    return found
