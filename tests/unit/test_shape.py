"""What requests do to their rows of the logits, against loops over tokens.

Shape suffixes: N rows, V vocabulary, P rows that ask, K ids, Q requests, T tokens.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vllm_diffusion.sampling.allowed_ids import keep_allowed
from vllm_diffusion.sampling.logit_bias import add_bias
from vllm_diffusion.sampling.penalties import History, Penalties, penalize
from vllm_diffusion.sampling.rows import forbid

VOCAB = 11
ROWS = torch.tensor([4, 1])
"""Rows that ask, of six."""


def logits_of(seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(6, VOCAB, generator=generator)).to(dtype)


def others(logits_NV: Tensor) -> Tensor:
    return logits_NV[[0, 2, 3, 5]]


def test_only_what_is_allowed_stays() -> None:
    logits_NV, before_NV = logits_of(), logits_of()
    keep_allowed(logits_NV, ROWS, torch.tensor([[3, 7, 7], [0, 1, 2]]))
    for row, ids in ((4, {3, 7}), (1, {0, 1, 2})):
        for token in range(VOCAB):
            want = before_NV[row, token] if token in ids else -torch.inf
            assert logits_NV[row, token] == want
    assert torch.equal(others(logits_NV), others(before_NV))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_biases_are_added(dtype: torch.dtype) -> None:
    logits_NV, before_NV = logits_of(dtype=dtype), logits_of(dtype=dtype)
    bias_PK = torch.tensor([[1.5, -100.0, -100.0], [0.25, 2.0, -3.0]])
    ids_PK = torch.tensor([[3, 7, 7], [0, 10, 2]])
    add_bias(logits_NV, ROWS, ids_PK, bias_PK)
    want_NV = before_NV.clone()
    for row, ids, bias in zip(ROWS.tolist(), ids_PK.tolist(), bias_PK.tolist(), strict=True):
        for token, value in dict(zip(ids, bias, strict=True)).items():
            want_NV[row, token] = before_NV[row, token].float() + value
    assert torch.equal(logits_NV, want_NV)


def test_what_is_forbidden_is_impossible() -> None:
    logits_NV, before_NV = logits_of(), logits_of()
    forbid(logits_NV, ROWS[:, None], torch.tensor([[3, 3], [0, 10]]))
    is_out_NV = logits_NV.isinf()
    assert is_out_NV.nonzero().tolist() == [[1, 0], [1, 10], [4, 3]]
    assert torch.equal(logits_NV[~is_out_NV], before_NV[~is_out_NV])


tokens = st.integers(0, VOCAB - 1)
request = st.fixed_dictionaries(
    {
        "prompt": st.lists(tokens, max_size=4),
        "output": st.lists(tokens, max_size=4),
        # None is masked.
        "canvas": st.lists(st.none() | tokens, min_size=3, max_size=3),
        "repetition": st.sampled_from([1.0, 1.5, 0.5]),
        "frequency": st.sampled_from([0.0, 0.75, -1.0]),
        "presence": st.sampled_from([0.0, 2.0, -0.5]),
    }
)


def naive(logits_V: list[float], wish: dict, own: int) -> list[float]:
    """One row, at canvas position ``own``."""
    canvas = [t for i, t in enumerate(wish["canvas"]) if t is not None and i != own]
    count = Counter(wish["output"] + canvas)
    answer = []
    for token, logit in enumerate(logits_V):
        if count[token] or token in wish["prompt"]:
            logit = logit / wish["repetition"] if logit > 0 else logit * wish["repetition"]
        logit -= wish["frequency"] * count[token]
        answer.append(logit - wish["presence"] * (count[token] > 0))
    return answer


@given(st.lists(request, min_size=2, max_size=2), st.integers(0, 2**31))
def test_penalties_are_those_of_a_loop(wishes: list[dict], seed: int) -> None:
    logits_NV, before_NV = logits_of(seed), logits_of(seed)
    rows = [(0, 0, 5), (0, 1, 0), (0, 2, 2), (1, 2, 3)]  # request, canvas position, row
    request_P, _, row_P = torch.tensor(rows).T
    # Padding is filled with a token that is nowhere else.
    padded = [
        [(t, part) for part in ("prompt", "output") for t in wish[part]]
        + [(0 if t is None else t, "canvas" if t is not None else "") for t in wish["canvas"]]
        for wish in wishes
    ]
    longest = max(map(len, padded))
    padded = [[*line, *[(VOCAB - 1, "")] * (longest - len(line))] for line in padded]
    history = History(
        torch.tensor([[token for token, _ in line] for line in padded]),
        torch.tensor([[part == "prompt" for _, part in line] for line in padded]),
        torch.tensor([[part in ("output", "canvas") for _, part in line] for line in padded]),
    )
    penalties = Penalties(
        *(torch.tensor([w[k] for w in wishes]) for k in ("repetition", "frequency", "presence"))
    )
    own = [wishes[q]["canvas"][offset] for q, offset, _ in rows]
    own_P = torch.tensor([-1 if token is None else token for token in own])
    penalize(logits_NV, row_P, request_P, own_P, history, penalties)
    for q, offset, row in rows:
        want_V = torch.tensor(naive(before_NV[row].tolist(), wishes[q], offset))
        torch.testing.assert_close(logits_NV[row], want_V)
    assert torch.equal(logits_NV[[1, 4]], before_NV[[1, 4]])


def test_a_forbidden_token_stays_forbidden() -> None:
    logits_NV = torch.full((1, 3), -torch.inf)
    is_there_QT = torch.tensor([[True, True]])
    history = History(torch.tensor([[0, 1]]), is_there_QT, is_there_QT)
    one = torch.ones(1)
    zero = torch.zeros(1, dtype=torch.int64)
    penalize(logits_NV, zero, zero, zero - 1, history, Penalties(2 * one, -one, -one))
    assert torch.equal(logits_NV, torch.full((1, 3), -torch.inf))
