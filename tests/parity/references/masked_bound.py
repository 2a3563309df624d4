"""LLaDA's Monte-Carlo bound of a text behind a cut (arXiv 2502.09992, equation 6), in plain loops.

Each masked text is a forward of its own, and nothing is shared between samples. The draws are those
that ``docs/likelihood.md`` defines.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tests.parity.references.block_causal import block_causal_mask
from tests.parity.references.choose import Network, without


def masked_counts_and_places(length: int, samples: int, seed: int) -> list[list[int]]:
    """Which of ``length`` tokens each sample masks."""
    state = np.random.RandomState(seed)
    shift = int(np.floor(state.random_sample() * length))
    drawn = []
    for sample in range(samples):
        keys = state.random_sample(length)
        count = 1 + (shift + (sample * length) // samples) % length
        drawn.append(sorted(range(length), key=keys.__getitem__)[:count])
    return drawn


@torch.inference_mode()
def bound(
    network: Network,
    text: Sequence[int],
    cut: int,
    *,
    mask_id: int,
    samples: int,
    seed: int,
    block: int | None = None,
    shift: bool = False,
) -> tuple[Tensor, Tensor]:
    """Each token's share of the bound, and how much of it the most probable tokens would add.

    Args:
        network: a plain forward pass.
        text: all of it.
        cut: tokens that are always shown.
        mask_id: the mask token.
        samples: S of each piece.
        seed: of the draws.
        block: B of a block-causal model, whose blocks are bounded one by one; else full attention.
        shift: row r - 1 predicts token r.

    Returns:
        Float64 (T,) and (T,); zeros in front of the cut.
    """
    num = len(text)
    shares, gaps = torch.zeros(num).double(), torch.zeros(num).double()
    start = cut
    while start < num:
        end = num if block is None else min(num, (start // block + 1) * block)
        for masked in masked_counts_and_places(end - start, samples, seed):
            shown = list(text[:end])
            for place in masked:
                shown[start + place] = mask_id
            if block is None:
                logits = network.logits(shown, torch.ones(end, end).bool())
            else:
                shown += [mask_id] * (-end % block)
                blocks = torch.arange(len(shown)) // block
                logits = network.logits(shown, block_causal_mask(len(shown), block), blocks)
            logs = without(mask_id, logits).log_softmax(-1).double()
            weight = (end - start) / len(masked) / samples
            for place in masked:
                row = logs[start + place - int(shift)]
                shares[start + place] += weight * row[text[start + place]]
                gaps[start + place] += weight * (row.max() - row[text[start + place]])
        start = end
    return shares, gaps
