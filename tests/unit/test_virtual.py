"""Virtual sequences against the block-causal mask as a matrix.

Suffixes: R requests, S virtual sequences.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vllm_diffusion.mask_groups.dense import block_causal
from vllm_diffusion.mask_groups.sequences import VirtualSequences, split

requests = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 4, 16]),  # block length
        st.integers(0, 5),  # blocks in the cache
        st.integers(1, 70),  # query length; its last block may be cut off
    ),
    min_size=1,
    max_size=6,
)


def split_batch(batch: list[tuple[int, int, int]]) -> VirtualSequences:
    block_length_R, cached_R, query_len_R = np.array(batch, dtype=np.int32).T
    borders = np.concatenate(([0], query_len_R.cumsum())).astype(np.int32)
    return split(borders, cached_R * block_length_R, block_length_R)


def seen_keys(virtual: VirtualSequences, length: int) -> Tensor:
    """bool (tokens, length): the keys of its own request that each query token sees."""
    query_len_S = torch.from_numpy(np.diff(virtual.query_start_loc)).long()
    keys_S = torch.from_numpy(virtual.seq_lens).long()
    return torch.arange(length) < keys_S.repeat_interleave(query_len_S)[:, None]


@given(requests)
def test_a_query_token_sees_what_the_dense_mask_shows_it(batch: list[tuple[int, int, int]]) -> None:
    virtual = split_batch(batch)
    longest = max(b * cached + query for b, cached, query in batch)
    seen = seen_keys(virtual, longest)
    first = 0
    for block_length, cached, query_len in batch:
        computed = cached * block_length
        total = computed + query_len
        expected = torch.zeros(query_len, longest, dtype=torch.bool)
        expected[:, :total] = block_causal(total, block_length)[computed:]
        assert torch.equal(seen[first : first + query_len], expected)
        first += query_len


@given(requests)
def test_sequences_tile_the_queries_of_their_requests(batch: list[tuple[int, int, int]]) -> None:
    virtual = split_batch(batch)
    query_len_S = np.diff(virtual.query_start_loc)
    assert virtual.query_start_loc.dtype == virtual.seq_lens.dtype == np.int32
    assert virtual.query_start_loc[0] == 0
    assert (query_len_S > 0).all()
    assert virtual.max_query_len == query_len_S.max()
    assert virtual.max_seq_len == virtual.seq_lens.max()
    request_S = virtual.request_S
    if request_S is None:
        request_S = np.arange(len(batch))
    assert (np.bincount(request_S, weights=query_len_S) == [q for _, _, q in batch]).all()
    assert (np.bincount(request_S) == [-(-q // b) for b, _, q in batch]).all()
    assert (np.diff(request_S) >= 0).all()


def test_one_block_apiece_needs_no_index() -> None:
    virtual = split_batch([(4, 3, 4), (16, 0, 16), (8, 1, 5)])
    assert virtual.request_S is None
    assert virtual.query_start_loc.tolist() == [0, 4, 20, 25]
    assert virtual.seq_lens.tolist() == [16, 16, 13]
    assert (virtual.max_query_len, virtual.max_seq_len) == (16, 16)


def test_a_fused_query_is_two_sequences() -> None:
    """A finished block and the next canvas beside a lone canvas and a prompt."""
    virtual = split_batch([(4, 2, 8), (4, 1, 4), (8, 0, 20)])
    assert virtual.request_S is not None
    assert virtual.request_S.tolist() == [0, 0, 1, 2, 2, 2]
    assert virtual.query_start_loc.tolist() == [0, 4, 8, 12, 20, 28, 32]
    assert virtual.seq_lens.tolist() == [12, 16, 8, 8, 16, 20]


@pytest.mark.parametrize("block_length", [1, 3, 4, 7])
def test_dense_mask_by_hand(block_length: int) -> None:
    mask = block_causal(7, block_length)
    for i in range(7):
        for j in range(7):
            assert bool(mask[i, j]) == (j // block_length <= i // block_length)
