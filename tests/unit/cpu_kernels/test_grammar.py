"""The grammar bitmask against the Triton kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .batches import VOCAB, cumulative, ints
from .harness import F16, F32, check
from .oracle import Oracle

STRIDE = 6  # positions per request in the mapping


@pytest.mark.parametrize("num_reqs", [1, 6])
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("max_logits", [1, 5])
@pytest.mark.parametrize("picked", ["all", "some", "shuffled"])
def test_bitmask(
    oracle: Oracle,
    rng: np.random.Generator,
    num_reqs: int,
    dtype: torch.dtype,
    max_logits: int,
    picked: str,
) -> None:
    num_logits = rng.integers(1, max_logits + 1, num_reqs)
    reqs = np.arange(num_reqs)
    if picked == "some":
        reqs = reqs[::2]
    elif picked == "shuffled":
        reqs = rng.permutation(reqs)
    # One position too many for some requests: a draft that was dropped after the masks were made.
    mapping = [r * STRIDE + p for r in reqs for p in range(num_logits[r] + r % 2)]
    words = -(-VOCAB // 32)
    bitmask = rng.integers(-(2**31), 2**31, (len(mapping), words))
    bitmask[:: 3 if num_reqs > 1 else 1] = -1  # everything is allowed
    args = [
        torch.from_numpy(rng.normal(0, 3, (num_logits.sum(), VOCAB))).to(dtype),
        VOCAB,
        ints(mapping),
        cumulative(num_logits),
        ints(bitmask),
        words,
        VOCAB,
    ]
    check(
        oracle,
        "gpu.structured_outputs._apply_grammar_bitmask_kernel",
        (len(mapping), 2),
        args,
        MASK_STRIDE=STRIDE,
        BLOCK_SIZE=64,
    )
