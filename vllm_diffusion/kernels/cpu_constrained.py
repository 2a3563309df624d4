"""The denoising step under automata over tokens, in C++ (``csrc/include/constrained_step.h``).

``worker.constrained``, ``structured.block_text`` and ``structured.frontier`` define the outcome.

Shape suffixes: S slots, R requests in the batch, K constrained ones of them, L canvas length,
N rows of logits.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int64, c_void_p
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vllm_diffusion.kernels.cpu_row_stats import DTYPE_CODES
from vllm_diffusion.kernels.library import required
from vllm_diffusion.kernels.reference import check_row_stats

if TYPE_CHECKING:
    from vllm_diffusion.kernels.cpu_denoise import Denoiser, Outcome, Requests
    from vllm_diffusion.structured.token_dfa import Automaton

Ints = NDArray[np.int64]

_ARRAYS = (
    *("cls", "dst", "first_edge", "distance", "sample", "size", "border"),  # int64
    *("class_of", "order"),  # int32
)
_SIZES = ("N", "C", "E", "V")


class _Automaton(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in _ARRAYS),
        *((name, c_int64) for name in _SIZES),
    ]


class NativeAutomaton:
    """An automaton as C++ reads it; valid for as long as this object lives."""

    def __init__(self, automaton: Automaton) -> None:
        order_V, border_C = automaton.classes.order
        arrays = (
            automaton.class_E,
            automaton.dst_E,
            automaton.first_edge_N,
            automaton.distance_N,
            automaton.sample_C,
            automaton.size_C,
            border_C,
        )
        self._arrays = [np.ascontiguousarray(array, np.int64) for array in arrays]
        for array in (automaton.class_V, order_V):
            self._arrays.append(np.ascontiguousarray(array, np.int32))
        self._struct = _Automaton(
            *(array.ctypes.data for array in self._arrays),
            automaton.num_states,
            automaton.num_classes,
            len(automaton.class_E),
            len(automaton.class_V),
        )
        self.address = ctypes.addressof(self._struct)


class Job(IntEnum):
    """Columns of a block whose text is asked for."""

    AUTOMATON = 0
    TOKENS = 1
    MASKED = 2
    START = 3
    END = 4
    SLACK = 5
    ROW_START = 6
    NUM_ROWS = 7


class Follow(IntEnum):
    """Columns of where a slot's text stands; see ``frontier.ConstrainedCanvas``."""

    AUTOMATON = 0
    """Address; 0 where the slot has none."""
    STATE = 1
    START = 2
    """-1 before the canvas was first followed."""
    FRONTIER = 3
    NUM_LEFT = 4
    IS_ENDING = 5
    BLOCK_LENGTH = 6


class BlockTexts(NamedTuple):
    """(K, L) each; the first four mean nothing where no text is chosen."""

    token: Tensor
    prob: Tensor
    second: Tensor
    entropy: Tensor
    is_chosen: Tensor
    is_forced: Tensor
    is_behind: Tensor


def block_texts(
    jobs: Ints, logits_NV: Tensor, length: int, mask_id: int, trusted: float
) -> BlockTexts:
    """The texts of K blocks.

    Args:
        jobs: (K, 8), columns as in ``Job``.
        logits_NV: as in ``row_stats``.
        length: L.
        mask_id: a token that never counts.
        trusted: see ``block_text.TRUSTED``.
    """
    functions = required("block_texts").functions
    check_row_stats(logits_NV, mask_id)
    shape = (len(jobs), length)
    # Allocated by NumPy: see ``cpu_row_stats``.
    arrays = [
        np.empty(shape, np.int64),
        *np.empty((3, *shape), np.float32),
        *np.empty((3, *shape), np.bool_),
    ]
    functions.vd_block_texts(
        jobs.ctypes.data,
        len(jobs),
        logits_NV.data_ptr(),
        *logits_NV.shape,
        logits_NV.stride(0) * logits_NV.itemsize,
        DTYPE_CODES[logits_NV.dtype],
        mask_id,
        length,
        trusted,
        torch.get_num_threads(),
        *(array.ctypes.data for array in arrays),
    )
    return BlockTexts(*map(torch.from_numpy, arrays))


class ConstrainedDenoiser:
    """``Denoiser.from_logits`` for batches some of whose requests an automaton holds.

    Args:
        denoiser: of all slots.
        follow_SF: (S, 7), columns as in ``Follow``; kept and written to.
        trusted: see ``block_text.TRUSTED``.
    """

    def __init__(self, denoiser: Denoiser, follow_SF: Ints, trusted: float) -> None:
        self.denoiser, self.trusted = denoiser, trusted
        self._follows = follow_SF.ctypes.data
        self._functions, self._level, _ = required("constrained_fill")

    def fill(self, logits_NV: Tensor, requests: Requests) -> NDArray[np.uint8]:
        """Fill the canvases; masks rows of the logits in place.

        Returns:
            (R,): 1 where the canvas is left to Python, before ``converge``.
        """
        check_row_stats(logits_NV, self.denoiser.slots.mask_id)
        is_left_R = np.empty(len(requests.slot_R), np.uint8)
        self._functions.vd_constrained_fill(
            self.denoiser.address,
            self._follows,
            logits_NV.data_ptr(),
            *logits_NV.shape,
            logits_NV.stride(0) * logits_NV.itemsize,
            DTYPE_CODES[logits_NV.dtype],
            self._level,
            torch.get_num_threads(),
            self.trusted,
            len(is_left_R),
            *(tensor.data_ptr() for tensor in requests),
            is_left_R.ctypes.data,
        )
        return is_left_R

    def converge(self, requests: Requests) -> tuple[Outcome, NDArray[np.uint8]]:
        """Say what is emitted, and start the canvases behind; (R,) as ``fill``."""
        outcome, addresses = self.denoiser.outcome(requests)
        is_left_R = np.empty(len(requests.slot_R), np.uint8)
        self._functions.vd_constrained_settle(
            self.denoiser.address, self._follows, *addresses, is_left_R.ctypes.data
        )
        return outcome, is_left_R
