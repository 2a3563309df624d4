"""Scores of tokens and their alternatives, and which positions a step changed.

Shape suffixes: N rows, V vocabulary, K alternatives.
"""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from vllm_diffusion.sampling.logprobs import changed_positions, scores_of

VOCAB, MASK_ID = 9, 4


@given(
    st.integers(0, 2**31),
    st.integers(0, VOCAB),
    st.lists(st.lists(st.integers(0, VOCAB - 1), max_size=3, unique=True), min_size=3, max_size=3),
    st.booleans(),
)
def test_scores_are_those_of_a_loop(
    seed: int, num_top: int, named: list[list[int]], gives_logits: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits_NV = torch.randn(3, VOCAB, generator=generator)
    logits_NV[:, MASK_ID] = -torch.inf
    token_N = torch.tensor([0, 3, 8])
    num_ids_N = torch.tensor([len(ids) for ids in named])
    width = max(map(len, named))
    ids_NK = torch.tensor([ids + [0] * (width - len(ids)) for ids in named]).view(3, width)
    if width:
        scores = scores_of(
            logits_NV, token_N, num_top, ids_NK, num_ids_N, gives_logits=gives_logits
        )
    else:
        scores = scores_of(logits_NV, token_N, num_top, gives_logits=gives_logits)
    table_NV = logits_NV if gives_logits else logits_NV.log_softmax(dim=-1)
    for row in range(3):
        token = int(token_N[row])
        best = sorted(range(VOCAB), key=lambda t: -float(logits_NV[row, t]))
        wanted = [token, *(named[row] or best[:num_top])]
        num = len(wanted)
        assert scores.ids_A[row, :num].tolist() == wanted
        torch.testing.assert_close(scores.scores_A[row, :num], table_NV[row, wanted])
        assert scores.scores_A[row, num:].isneginf().all()
        assert scores.rank[row] == best.index(token) + 1


def test_changes_are_acceptances_and_edits() -> None:
    tokens_QL = torch.tensor([[1, 2, 9, 9], [4, 9, 9, 9]])
    scored_QL = torch.tensor([[True, True, False, False], [False] * 4])
    new_QL = torch.tensor([[1, 3, 5, 9], [4, 7, 8, 9]])
    settled_QL = torch.tensor([[True, True, True, False], [True, True, True, False]])
    changed_QL = changed_positions(tokens_QL, scored_QL, new_QL, settled_QL)
    assert changed_QL.tolist() == [[False, True, True, False], [True, True, True, False]]
