"""The rows of logits of the requests that ask for something.

Shape suffixes: S slots, B requests with a canvas, Q of them that ask, P their rows of logits, K ids
a row, N rows of logits, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from vllm_diffusion.batch.canvases import Canvases, rows_of
from vllm_diffusion.batch.device import to_device

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class AskedRows(NamedTuple):
    """int64 where not said otherwise."""

    asks_B: NDArray[np.bool_]
    """On the host."""
    request_P: Tensor
    """Which of the Q requests."""
    offset_P: Tensor
    """Canvas position."""
    row_P: Tensor
    """Row of the step's logits."""
    slot_Q: Tensor


def asked_rows(
    batch: Canvases, asks_S: NDArray[np.bool_], device: torch.device
) -> AskedRows | None:
    """Of the step's requests that ask; None where nobody does."""
    asks_B = asks_S[batch.slot_B]
    if not asks_B.any():
        return None
    request_P, offset_P, row_P, _ = to_device(rows_of(batch, asks_B), device).unbind(0)
    slot_Q = to_device(batch.slot_B[asks_B], device)
    return AskedRows(asks_B, request_P, offset_P, row_P, slot_Q)


def forbid(logits_NV: Tensor, row_PK: Tensor, ids_PK: Tensor) -> None:
    """Forbid ``ids_PK`` in the rows ``row_PK``, which broadcast to each other."""
    logits_NV[row_PK, ids_PK] = -float("inf")
