"""Access to logits from NumPy, which has no bfloat16.

The sampler works on float32, where a tensor and its NumPy view are the same memory. Other types go
through a float32 copy: as in the Triton kernels, arithmetic is float32 and the result is rounded
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


@contextmanager
def float32_rows(logits: Tensor) -> Iterator[np.ndarray]:
    """Yield `logits` as a float32 array; what is written to it ends up in `logits`."""
    if logits.dtype == torch.float32:
        yield logits.numpy()
        return
    work = logits.float()
    yield work.numpy()
    logits.copy_(work)


def assign(logits: Tensor, rows: np.ndarray, tokens: np.ndarray, value: float) -> None:
    """Set ``logits[rows[i], tokens[i]] = value`` for logits of any type."""
    if logits.dtype == torch.float32:
        logits.numpy()[rows, tokens] = value
    else:
        logits[torch.from_numpy(rows), torch.from_numpy(tokens).long()] = value
