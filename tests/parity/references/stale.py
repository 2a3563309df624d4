"""Keys and values that stay behind while a block is decoded, without a cache.

Fast-dLLM v1 (arXiv 2505.22618) decodes fully attending models with K and V that are computed once
a block. What a later forward sees of such a position is what the block's first forward made of
it. So put the sequence of the first forward in front, with a mask that shows it itself alone,
and the rows that are computed anew behind it, at positions of their own.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class PositionedNetwork(Protocol):
    """A network that reads a token at any position, and several at one."""

    def logits(
        self,
        tokens: list[int],
        mask: Tensor,
        blocks: Any = None,
        *,
        positions: list[int] | None = None,
    ) -> Tensor:
        """Float32 (T, V); positions 0..T-1 if not said."""
        ...


def stale_logits(
    network: PositionedNetwork, frozen: Sequence[int], tokens: Sequence[int], fresh: range
) -> Tensor:
    """Logits of the positions in ``fresh``, (len(fresh), V).

    Args:
        frozen: T tokens of the forward that K and V outside of ``fresh`` come from.
        tokens: T tokens now.
        fresh: positions that are computed anew, K and V included.
    """
    length = len(frozen)
    mask = torch.zeros(length + len(fresh), length + len(fresh), dtype=torch.bool)
    mask[:length, :length] = True
    mask[length:] = True
    mask[length:, fresh.start : fresh.stop] = False
    read = [*frozen, *tokens[fresh.start : fresh.stop]]
    return network.logits(read, mask, positions=[*range(length), *fresh])[length:]
