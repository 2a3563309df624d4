"""``structured.posterior`` in C++ (``csrc/include/posterior.h``), for tensors on the CPU."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vllm_diffusion.kernels.library import required

if TYPE_CHECKING:
    from vllm_diffusion.structured.posterior import Automata, Block

_SIZES = ("K", "L", "N", "C", "E")
_TENSORS = ("src", "cls", "dst", "distance", "start", "end", "slack")


class _Posterior(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_void_p) for name in _TENSORS),
    ]


class Posteriors:
    """Automata and blocks, as C++ reads them."""

    def __init__(self, block: Block, automata: Automata) -> None:
        self.functions = required("posterior").functions
        num_requests, length = block.fixed_KL.shape
        self.shape = (num_requests, length, automata.num_states, automata.num_classes)
        # Kept for as long as C++ may read them.
        self._tensors = [
            tensor.contiguous()
            for tensor in (
                automata.src_KE,
                automata.class_KE,
                automata.dst_KE,
                automata.distance_KN,
                block.start_K,
                block.end_K,
                block.slack_K,
            )
        ]
        addresses = [tensor.data_ptr() for tensor in self._tensors]
        self._in = _Posterior(*self.shape, automata.src_KE.shape[1], *addresses)

    def sums(self, score_KLC: Tensor, *, has_factors: bool) -> tuple[Tensor, Tensor | None]:
        """``backward`` (L + 1, K, N) of sums and, where asked for, ``class_factors`` (K, L, C)."""
        num_requests, length, num_states, _ = self.shape
        score_KLC = score_KLC.contiguous()
        to_exit_KLN = score_KLC.new_empty((num_requests, length + 1, num_states))
        factor_KLC = torch.empty_like(score_KLC) if has_factors else None
        self.functions.vd_posterior_sums(
            ctypes.addressof(self._in),
            score_KLC.data_ptr(),
            to_exit_KLN.data_ptr(),
            None if factor_KLC is None else factor_KLC.data_ptr(),
        )
        return to_exit_KLN.transpose(0, 1), factor_KLC

    def best(self, score_KLC: Tensor) -> tuple[Tensor, Tensor]:
        """Classes (K, L) of the most probable texts, and the states in front of them.

        Args:
            score_KLC: the maxima of each class.
        """
        score_KLC = score_KLC.contiguous()
        class_KL = score_KLC.new_empty(self.shape[:2], dtype=torch.int64)
        state_KL = torch.empty_like(class_KL)
        self.functions.vd_posterior_best(
            ctypes.addressof(self._in),
            score_KLC.data_ptr(),
            class_KL.data_ptr(),
            state_KL.data_ptr(),
        )
        return class_KL, state_KL

    def path(self, to_exit_LKN: Tensor, value_KLC: Tensor) -> tuple[Tensor, Tensor]:
        """The same of drawn texts.

        Args:
            to_exit_LKN: of ``sums``.
            value_KLC: what is drawn of each class.
        """
        value_KLC = value_KLC.contiguous()
        to_exit_KLN = to_exit_LKN.transpose(0, 1).contiguous()
        class_KL = value_KLC.new_empty(self.shape[:2], dtype=torch.int64)
        state_KL = torch.empty_like(class_KL)
        self.functions.vd_posterior_path(
            ctypes.addressof(self._in),
            to_exit_KLN.data_ptr(),
            value_KLC.data_ptr(),
            class_KL.data_ptr(),
            state_KL.data_ptr(),
        )
        return class_KL, state_KL
