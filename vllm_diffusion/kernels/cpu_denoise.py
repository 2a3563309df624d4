"""The plain denoising step in C++ (``csrc/include/denoise.h``): one call for the whole batch.

Plain: a rule of ``RULES``, whose schedule is even, on whole canvases whose tokens stay once they
are accepted. ``denoise.step.denoise`` defines the outcome; this one also reads the canvases from
their slots and writes them back.

Shape suffixes: S slots, E stop ids, L canvas length, R requests in the batch, N rows of logits.
"""

import ctypes
from ctypes import c_int64, c_void_p
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.kernels.cpu_row_stats import DTYPE_CODES
from vllm_diffusion.kernels.library import required
from vllm_diffusion.kernels.reference import RowStats, check_row_stats

RULES = ("confidence", "static", "entropy", "margin")
"""Names of policies; their order is the interface's."""


@dataclass(frozen=True, slots=True)
class Slots:
    """What outlives a step. Contiguous, on the CPU, int64 where not said otherwise."""

    rule_S: Tensor
    """Index in ``RULES``."""
    threshold_S: Tensor
    """float32."""
    max_steps_S: Tensor
    block_length_S: Tensor
    max_len_S: Tensor
    """Tokens that the request may have, prompt included."""
    stop_ids_SE: Tensor
    """Padded with -1."""
    total_len_S: Tensor
    """int32. Tokens that the request has."""
    tokens_SL: Tensor
    masked_SL: Tensor
    """bool."""
    step_S: Tensor
    max_model_len: int
    mask_id: int


class Requests(NamedTuple):
    """The requests of a step. Contiguous, on the CPU.

    Attributes:
        slot_R: int64, no slot twice.
        row_border_R: int32 (R + 1,), each request's rows of logits: one for each canvas position
            that exists, none where it has no canvas.
        rejected_R: int64, query positions behind the final K and V, where there is a canvas; see
            ``MaskGroup.resume``.
    """

    slot_R: Tensor
    row_border_R: Tensor
    rejected_R: Tensor


class Outcome(NamedTuple):
    """What the step did; 0 for requests without a canvas.

    Attributes:
        tokens_RL: int64, the canvases after the step.
        num_emitted_R: int32, how many of these tokens are settled for good.
        num_rejected_R: int32, query positions behind the final K and V.
    """

    tokens_RL: Tensor
    num_emitted_R: Tensor
    num_rejected_R: Tensor


_DTYPES = {"threshold_S": torch.float32, "total_len_S": torch.int32, "masked_SL": torch.bool}
_TENSORS = tuple(field.name for field in fields(Slots) if field.type is Tensor)
_NUMBERS = ("num_stop_ids", "length", "max_model_len", "mask_id")


class _Slots(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in _TENSORS),
        *((name, c_int64) for name in _NUMBERS),
    ]


class Denoiser:
    """Denoises canvases in their slots.

    Args:
        slots: kept, not copied: what is written to its tensors later counts.

    Raises:
        ValueError: a tensor that C++ would misread.
        RuntimeError: the library is not usable.
    """

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self._functions, self._level, _ = required("denoise")
        pointers = {name: _address(name, getattr(slots, name)) for name in _TENSORS}
        self._struct = _Slots(
            **pointers,
            num_stop_ids=slots.stop_ids_SE.shape[1],
            length=slots.tokens_SL.shape[1],
            max_model_len=slots.max_model_len,
            mask_id=slots.mask_id,
        )
        self.address = ctypes.addressof(self._struct)

    def from_logits(self, logits_NV: Tensor, requests: Requests) -> Outcome:
        """Run one step on the most probable tokens.

        Args:
            logits_NV: as in ``row_stats``; the mask token is left out.
            requests: trusted, since this is called in every step.

        Raises:
            ValueError: logits as ``row_stats`` refuses them.
        """
        check_row_stats(logits_NV, self.slots.mask_id)
        num_rows, vocab_size = logits_NV.shape
        outcome, addresses = self.outcome(requests)
        self._functions.vd_denoise_logits(
            self.address,
            logits_NV.data_ptr(),
            num_rows,
            vocab_size,
            logits_NV.stride(0) * logits_NV.itemsize,
            DTYPE_CODES[logits_NV.dtype],
            self._level,
            torch.get_num_threads(),
            *addresses,
        )
        return outcome

    def from_stats(self, stats: RowStats, requests: Requests) -> Outcome:
        """Run one step on the candidates in ``stats``, of the rows of logits."""
        outcome, addresses = self.outcome(requests)
        self._functions.vd_denoise(
            self.address,
            stats.argmax_N.data_ptr(),
            stats.prob_N.data_ptr(),
            stats.second_N.data_ptr(),
            stats.entropy_N.data_ptr(),
            *addresses,
        )
        return outcome

    def outcome(self, requests: Requests) -> tuple[Outcome, tuple[int, ...]]:
        """Memory for the outcome; the last arguments of both functions."""
        slot_R, row_border_R, rejected_R = requests
        num_reqs = len(slot_R)
        # NumPy allocates small arrays several times faster than torch.
        tokens_RL = torch.from_numpy(np.empty((num_reqs, self._struct.length), np.int64))
        num_emitted_R = torch.from_numpy(np.empty(num_reqs, np.int32))
        num_rejected_R = torch.from_numpy(np.empty(num_reqs, np.int32))
        return Outcome(tokens_RL, num_emitted_R, num_rejected_R), (
            num_reqs,
            slot_R.data_ptr(),
            row_border_R.data_ptr(),
            rejected_R.data_ptr(),
            tokens_RL.data_ptr(),
            num_emitted_R.data_ptr(),
            num_rejected_R.data_ptr(),
        )


def _address(name: str, tensor: Tensor) -> int:
    dtype = _DTYPES.get(name, torch.int64)
    if not (tensor.is_cpu and tensor.is_contiguous() and tensor.dtype == dtype):
        raise ValueError(
            f"{name}: {tensor.dtype} on {tensor.device} with strides {tensor.stride()}; "
            f"it must be contiguous {dtype} on the CPU"
        )
    return tensor.data_ptr()
