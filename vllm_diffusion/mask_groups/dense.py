"""The attention masks as matrices. For checks and for reading; nothing in a step."""

import torch
from torch import Tensor


def block_causal(length: int, block_length: int) -> Tensor:
    """bool (length, length): i sees j iff ``j // B <= i // B`` (BD3-LM, arXiv 2503.09573)."""
    block = torch.arange(length) // block_length
    return block[None, :] <= block[:, None]
