"""One token a step, drawn 20,000 times from shaped logits, against the exact distribution.

Two positions, two dozen tokens; the toy network's logits at a position depend on the token at the
other one. Shape suffixes: B samples, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.unit.denoise_inputs import cuts_of, params_of
from vllm_diffusion.denoise.sample import Draws, candidates
from vllm_diffusion.denoise.step import denoise
from vllm_diffusion.sampling.bad_words import ANY, NONE, BadWords, forbidden
from vllm_diffusion.sampling.logit_bias import add_bias
from vllm_diffusion.sampling.penalties import History, Penalties, penalize
from vllm_diffusion.sampling.rows import forbid

VOCAB, MASK_ID, NUM = 24, 23, 20_000
BIAS = {3: 1.0, 4: -0.5}
WORD = [5, 6]
STOPS = [7, 8]
"""Not at position 0: min_tokens = 1."""
PRESENCE, REPETITION, PROMPT = 0.9, 1.3, [2, 9]
TEMPERATURE, TOP_K, TOP_P, MIN_P = 1.4, 15, 0.95, 0.05


def network() -> Tensor:
    """Logits (2, V, V): of a position, when the other one holds a token."""
    return 1.2 * torch.randn(2, VOCAB, VOCAB, generator=torch.Generator().manual_seed(3))


def rows(logits_2VV: Tensor, position: int, other: int) -> tuple[list[float], list[float]]:
    """Probabilities of a row, token by token: as the model is sure of them, and as it draws."""
    x = logits_2VV[position, other].tolist()
    for token, value in BIAS.items():
        x[token] += value
    if position == 0:
        for token in STOPS:
            x[token] = -math.inf
    for token in {*PROMPT, other} - {MASK_ID}:
        x[token] = x[token] / REPETITION if x[token] > 0 else x[token] * REPETITION
        x[token] -= PRESENCE * (token == other)
    if other == WORD[1 - position]:
        x[WORD[position]] = -math.inf
    x[MASK_ID] = -math.inf
    sure = softmax(x)
    q = softmax([logit / TEMPERATURE for logit in x])
    q = [p if p >= MIN_P * max(q) else 0.0 for p in q]
    best = sorted(range(VOCAB), key=lambda t: -q[t])[:TOP_K]
    mass = sum(q[t] for t in best)
    kept, before = [], 0.0
    for token in best:
        if before < TOP_P * mass:
            kept.append(token)
        before += q[token]
    total = sum(q[t] for t in kept)
    return sure, [q[t] / total if t in kept else 0.0 for t in range(VOCAB)]


def softmax(x: list[float]) -> list[float]:
    e = [math.exp(value) for value in x]
    return [value / sum(e) for value in e]


def exact(logits_2VV: Tensor) -> Tensor:
    """(V, V) the probability of each pair."""
    (sure_0, drawn_0), (sure_1, drawn_1) = (rows(logits_2VV, i, MASK_ID) for i in range(2))
    after = [[rows(logits_2VV, i, t)[1] for t in range(VOCAB)] for i in range(2)]
    pairs_VV = torch.zeros(VOCAB, VOCAB, dtype=torch.float64)
    for a in range(VOCAB):
        for b in range(VOCAB):
            # The surer draw stays; the other position is drawn again.
            if sure_0[a] >= sure_1[b]:
                pairs_VV[a] += drawn_0[a] * drawn_1[b] * torch.tensor(after[1][a]).double()
            else:
                pairs_VV[:, b] += drawn_0[a] * drawn_1[b] * torch.tensor(after[0][b]).double()
    return pairs_VV


def shaped(logits_2VV: Tensor, tokens_B2: Tensor, masked_B2: Tensor, bad: BadWords) -> Tensor:
    """The rows of all samples, (2 B, V)."""
    num = 2 * NUM
    row_P = torch.arange(num)
    position_P, request_P = row_P % 2, row_P // 2
    x_NV = logits_2VV[position_P, tokens_B2.flip(1).flatten()]
    bias_PK = torch.tensor([[*BIAS.values()]]).expand(num, 2)
    add_bias(x_NV, row_P, torch.tensor([[*BIAS]]).expand(num, 2), bias_PK)
    forbid(x_NV, row_P[::2, None], torch.tensor([STOPS]))
    prompt_B2 = torch.tensor([PROMPT]).expand(NUM, 2)
    yes_B2 = torch.ones_like(masked_B2)
    history = History(
        torch.cat((prompt_B2, tokens_B2), dim=1),
        torch.cat((yes_B2, ~yes_B2), dim=1),
        torch.cat((~yes_B2, ~masked_B2), dim=1),
    )
    one_B = torch.ones(NUM)
    penalties = Penalties(REPETITION * one_B, 0 * one_B, PRESENCE * one_B)
    own_P = torch.where(masked_B2, -1, tokens_B2).flatten()
    penalize(x_NV, row_P, request_P, own_P, history, penalties)
    is_out_BX, position_BX, token_BX = forbidden(bad, tokens_B2, ~masked_B2)
    row_BX = 2 * torch.arange(NUM)[:, None] + position_BX
    forbid(x_NV, row_BX[is_out_BX], token_BX[is_out_BX])
    return x_NV


def test_pairs_come_as_often_as_they_should() -> None:
    logits_2VV = network()
    bad = BadWords(torch.tensor([[WORD]]).expand(NUM, 1, 2), torch.full((NUM, 1), NONE))
    assert ANY not in WORD
    tokens_B2 = torch.full((NUM, 2), MASK_ID)
    masked_B2 = torch.ones(NUM, 2, dtype=torch.bool)
    step_B = torch.zeros(NUM, dtype=torch.int64)
    params = params_of(
        ["static"] * NUM,
        threshold=[0.0] * NUM,
        max_steps=[2] * NUM,
        block_length=[2] * NUM,
    )
    row_P = torch.arange(2 * NUM)
    full_P = torch.ones(2 * NUM)
    for step in range(2):
        draws = Draws(
            row_N=row_P,
            temperature_N=TEMPERATURE * full_P,
            seed_N=row_P // 2,
            position_N=row_P % 2,
            step_N=step * full_P.long(),
            cuts=cuts_of(min_p=MIN_P * full_P, top=(TOP_K * full_P.long(), TOP_P * full_P)),
        )
        x_NV = shaped(logits_2VV, tokens_B2, masked_B2, bad)
        answer = candidates(x_NV, row_P.view(NUM, 2), MASK_ID, draws)
        result = denoise(tokens_B2, masked_B2, step_B, answer, params, [bad])
        tokens_B2, masked_B2, step_B = result.tokens_BL, result.masked_BL, result.step_B
    assert (result.num_emitted_B == 2).all()

    expected_VV = exact(logits_2VV) * NUM
    assert abs(float(expected_VV.sum()) - NUM) < 1e-3
    found_VV = torch.zeros(VOCAB, VOCAB, dtype=torch.float64)
    found_VV.index_put_(tokens_B2.unbind(1), torch.ones(NUM).double(), accumulate=True)
    assert not found_VV[expected_VV == 0].any()
    common_VV = expected_VV >= 5
    found, expected = (
        torch.cat((x_VV[common_VV], x_VV[~common_VV].sum()[None]))
        for x_VV in (found_VV, expected_VV)
    )
    assert len(expected) > 50
    statistic = ((found - expected) ** 2 / expected).sum()
    freedom = torch.tensor((len(expected) - 1) / 2, dtype=torch.float64)
    assert torch.special.gammaincc(freedom, statistic / 2) > 0.01
