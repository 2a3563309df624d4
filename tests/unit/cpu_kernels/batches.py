"""Random batches in the shapes the runner hands to its kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

MAX_REQS = 16
MAX_LEN = 96
VOCAB = 70  # no multiple of 8 or 32

# No request, one, a few (copied slice by slice), many (index vectors).
BATCH_SIZES = [0, 1, 5, 12]


@dataclass
class Batch:
    """`num_reqs` requests in scattered state rows; per-batch tensors go on with padding."""

    num_reqs: int
    idx_mapping: torch.Tensor  # [num_reqs]
    lens: np.ndarray  # [num_reqs] query lengths
    query_start_loc: torch.Tensor  # [MAX_REQS + 1]
    num_computed: torch.Tensor  # [MAX_REQS] per state row, like the next ones
    prefill_len: torch.Tensor
    all_token_ids: torch.Tensor  # [MAX_REQS, MAX_LEN]

    @property
    def total(self) -> int:
        return int(self.lens.sum())

    @property
    def seq_lens(self) -> torch.Tensor:
        """Sequence lengths after this step, padded with zeros."""
        seq_lens = torch.zeros(MAX_REQS, dtype=torch.int32)
        computed = self.num_computed[self.idx_mapping]
        seq_lens[: self.num_reqs] = computed + torch.from_numpy(self.lens)
        return seq_lens


def ints(values: Any, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=dtype)


def random_batch(rng: np.random.Generator, num_reqs: int, max_query: int = 9) -> Batch:
    """Return a mix of requests in prefill (also past the end of the prompt) and generating ones."""
    lens = rng.integers(1, max_query + 1, num_reqs).astype(np.int32)
    query_start_loc = np.full(MAX_REQS + 1, lens.sum())
    query_start_loc[: num_reqs + 1] = np.concatenate([[0], lens.cumsum()])
    return Batch(
        num_reqs=num_reqs,
        idx_mapping=ints(rng.permutation(MAX_REQS)[:num_reqs], torch.int64),
        lens=lens,
        query_start_loc=ints(query_start_loc),
        num_computed=ints(rng.integers(0, MAX_LEN // 2, MAX_REQS)),
        prefill_len=ints(rng.integers(1, MAX_LEN // 2 + 8, MAX_REQS)),
        all_token_ids=ints(rng.integers(0, VOCAB, (MAX_REQS, MAX_LEN))),
    )


def cumulative(counts: np.ndarray) -> torch.Tensor:
    return ints(np.concatenate([[0], np.cumsum(counts)]))
