"""Arrays by slot on host and device, and copies to the device, as vLLM makes them.

vLLM is imported when it is called, so that what stands on these runs and is tested without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SlotArray(Protocol):
    """One entry or row a slot. The host writes; a step reads the device's copy."""

    np: NDArray[Any]
    cpu: Tensor
    gpu: Tensor

    def copy_to_uva(self) -> Tensor:
        """Make what was written visible to the next step."""
        ...


def slot_array(shape: int | Sequence[int], dtype: torch.dtype) -> SlotArray:
    """Zeros."""
    from vllm.v1.worker.gpu.buffer_utils import UvaBackedTensor

    made: SlotArray = UvaBackedTensor(shape, dtype=dtype)
    return made


def to_device(host: NDArray[Any], device: torch.device) -> Tensor:
    """A copy that nobody waits for."""
    from vllm.utils.torch_utils import async_tensor_h2d

    copy: Tensor = async_tensor_h2d(host, device=device)
    return copy
