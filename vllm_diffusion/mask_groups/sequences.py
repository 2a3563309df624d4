"""Virtual sequences: the block-causal mask on any paged attention kernel.

A request's query is split into one non-causal sequence a diffusion block. All
of them share the request's block table; each has its own key length, the end
of its block. vLLM writes K and V of the whole batch before a layer's attention
reads any, so a block sees every earlier block and all of itself: exactly the
block-causal mask, with no mask in the kernel.

The arithmetic is done on the host, where the scheduler's numbers already are.
Suffixes: R requests, S virtual sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class VirtualSequences:
    """One entry a diffusion block of the batch, in query order."""

    query_start_loc: NDArray[np.int32]
    """(S + 1,) borders of the queries in the batch's tokens."""
    seq_lens: NDArray[np.int32]
    """(S,) keys that the sequence sees."""
    request_S: NDArray[np.intp] | None
    """(S,) the request each belongs to; None when it is one apiece, in order."""
    max_query_len: int
    max_seq_len: int


def whole(
    query_start_loc: NDArray[np.int32], seq_lens: NDArray[np.integer[Any]]
) -> VirtualSequences:
    """One sequence a request, as they are; arguments as the fields of the result."""
    return VirtualSequences(
        query_start_loc=query_start_loc,
        seq_lens=seq_lens.astype(np.int32),
        request_S=None,
        max_query_len=int(np.diff(query_start_loc).max()),
        max_seq_len=int(seq_lens.max()),
    )


def split(
    query_start_loc: NDArray[np.int32],
    num_computed_R: NDArray[np.integer[Any]],
    block_length_R: NDArray[np.int64],
) -> VirtualSequences:
    """Split each request's query at the borders of its diffusion blocks.

    Args:
        query_start_loc: int32 (R + 1,), borders of the requests' queries.
        num_computed_R: (R,), tokens in the cache before the query; a
            multiple of the block length, as the scheduler keeps it.
        block_length_R: int64 (R,).
    """
    query_len_R = np.diff(query_start_loc)
    num_blocks_R = -(-query_len_R // block_length_R)
    num_sequences = int(num_blocks_R.sum())
    if (num_blocks_R == 1).all():
        seq_lens = (num_computed_R + query_len_R).astype(np.int32)
        return VirtualSequences(
            query_start_loc=query_start_loc,
            seq_lens=seq_lens,
            request_S=None,
            max_query_len=int(query_len_R.max()),
            max_seq_len=int(seq_lens.max()),
        )
    request_S = np.repeat(np.arange(len(query_len_R)), num_blocks_R)
    first_R = np.cumsum(num_blocks_R) - num_blocks_R
    block_S = np.arange(num_sequences) - first_R[request_S]
    end_S = np.minimum((block_S + 1) * block_length_R[request_S], query_len_R[request_S])
    borders = np.empty(num_sequences + 1, dtype=np.int32)
    borders[0] = query_start_loc[0]
    borders[1:] = query_start_loc[:-1][request_S] + end_S
    seq_lens = (num_computed_R[request_S] + end_S).astype(np.int32)
    return VirtualSequences(
        query_start_loc=borders,
        seq_lens=seq_lens,
        request_S=request_S,
        max_query_len=int(np.diff(borders).max()),
        max_seq_len=int(seq_lens.max()),
    )
