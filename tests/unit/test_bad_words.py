"""Words stay out however the tokens come: forbidden candidates, and acceptances taken back.

Shape suffixes: B requests, L canvas length.
"""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.denoise_inputs import params_of
from vllm_diffusion.denoise.edit import EditParams
from vllm_diffusion.denoise.sample import candidates
from vllm_diffusion.denoise.step import StepRule, denoise
from vllm_diffusion.sampling.bad_words import ANY, NONE, BadWords, forbidden, take_back

# Tokens 4 and 5 are in no word, so every position has a candidate left.
VOCAB, MASK_ID, LENGTH = 7, 6, 5
Words = list[list[int]]


def of(requests: list[tuple[Words, list[int]]]) -> BadWords:
    """Words and the last output tokens of each request."""
    num = max(1, *(len(words) for words, _ in requests))
    length = max([2, *(len(word) for words, _ in requests for word in words)])
    words_BWK = torch.full((len(requests), num, length), ANY)
    context_BC = torch.full((len(requests), length - 1), NONE)
    for b, (words, context) in enumerate(requests):
        for w, word in enumerate(words):
            words_BWK[b, w, : len(word)] = torch.tensor(word)
        last = context[-(length - 1) :]
        if last:
            context_BC[b, -len(last) :] = torch.tensor(last)
    return BadWords(words_BWK, context_BC)


def has_word(line: list[int | None], words: Words) -> bool:
    return any(
        line[i : i + len(word)] == word for word in words for i in range(len(line) - len(word) + 1)
    )


words = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=4), max_size=4)
context = st.lists(st.integers(0, 3), max_size=4)
canvas = st.lists(st.none() | st.integers(0, 3), min_size=LENGTH, max_size=LENGTH)


@given(st.lists(st.tuples(words, context, canvas), min_size=1, max_size=3))
def test_forbidden_is_what_completes_a_word(requests: list[tuple]) -> None:
    requests = [r for r in requests if not has_word(r[1][-3:] + r[2], r[0])]
    if not requests:
        return
    bad = of([(words, context) for words, context, _ in requests])
    tokens_BL = torch.tensor([[0 if t is None else t for t in r[2]] for r in requests])
    settled_BL = torch.tensor([[t is not None for t in r[2]] for r in requests])
    found = list(zip(*forbidden(bad, tokens_BL, settled_BL), strict=True))
    for (words, context, canvas), (is_there, position, token) in zip(requests, found, strict=True):
        got = set(zip(position[is_there].tolist(), token[is_there].tolist(), strict=True))
        before = context[-bad.context_BC.shape[1] :]
        want = set()
        for i in range(LENGTH):
            for t in range(VOCAB):
                line = [*before, *canvas[:i], t, *canvas[i + 1 :]]
                if has_word(line, words):
                    want.add((i, t))
        assert got == want


def run(words: Words, context: list[int], seed: int, *, edits: bool, policy: str) -> list[int]:
    """Denoise one canvas on random logits; the tokens that are emitted."""
    generator = torch.Generator().manual_seed(seed)
    bad = of([(words, context), ([], [])])
    tokens_BL = torch.full((2, LENGTH), MASK_ID)
    masked_BL = torch.ones(2, LENGTH, dtype=torch.bool)
    step_B, post_step_B = torch.zeros(2, 2, dtype=torch.int64)
    for _ in range(LENGTH + 4):
        logits_NV = 2 * torch.randn(2 * LENGTH, VOCAB, generator=generator)
        is_there_BX, position_BX, token_BX = forbidden(bad, tokens_BL, ~masked_BL)
        for b in range(2):
            there = is_there_BX[b]
            logits_NV[b * LENGTH + position_BX[b][there], token_BX[b][there]] = -torch.inf
        rules: list[StepRule] = [bad]
        if edits:
            rules.insert(0, EditParams(torch.zeros(2), torch.full((2,), 3), post_step_B))
        params = params_of(
            [policy] * 2,
            threshold=[0.0] * 2,
            max_steps=[LENGTH] * 2,
            block_length=[LENGTH] * 2,
        )
        answer = candidates(logits_NV, torch.arange(2 * LENGTH).view(2, LENGTH), MASK_ID)
        before_B = masked_BL.sum(dim=-1)
        result = denoise(tokens_BL, masked_BL, step_B, answer, params, rules)
        tokens_BL, masked_BL, step_B = result.tokens_BL, result.masked_BL, result.step_B
        if result.post_step_B is not None:
            post_step_B = result.post_step_B
        after_B = masked_BL.sum(dim=-1)
        assert ((after_B < before_B) | (before_B == 0)).all()
        line = [None if m else t for t, m in zip(tokens_BL[0].tolist(), masked_BL[0], strict=True)]
        assert not has_word([*context, *line], words)
        if result.num_emitted_B[0]:
            return tokens_BL[0, : result.num_emitted_B[0]].tolist()
    raise AssertionError("the block has not converged")


@given(
    words, context, st.integers(0, 2**31), st.booleans(), st.sampled_from(["confidence", "static"])
)
def test_no_word_ever_and_always_an_end(
    words: Words, context: list[int], seed: int, edits: bool, policy: str
) -> None:
    context = context[-3:]
    if not has_word(list(context), words):
        run(words, context, seed, edits=edits, policy=policy)


def test_the_least_sure_is_taken_back() -> None:
    bad = of([([[1, 2, 3]], [])])
    tokens_BL = torch.full((1, LENGTH), MASK_ID)
    settled_BL = torch.zeros(1, LENGTH, dtype=torch.bool)
    candidate_BL = torch.tensor([[0, 1, 2, 3, 1]])
    prob_BL = torch.tensor([[0.1, 0.9, 0.5, 0.7, 0.2]])
    accepted_BL = torch.ones(1, LENGTH, dtype=torch.bool)
    kept_BL, edited_BL = take_back(bad, tokens_BL, settled_BL, candidate_BL, prob_BL, accepted_BL)
    assert edited_BL is None
    assert kept_BL.tolist() == [[True, True, False, True, True]]


def test_words_that_overlap_lose_one_token_each() -> None:
    bad = of([([[1, 1]], [1])])
    settled_BL = torch.zeros(1, LENGTH, dtype=torch.bool)
    prob_BL = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]])
    kept_BL, _ = take_back(
        bad,
        torch.full((1, LENGTH), MASK_ID),
        settled_BL,
        torch.tensor([[0, 1, 1, 1, 1]]),
        prob_BL,
        ~settled_BL,
    )
    assert kept_BL.tolist() == [[True, True, False, False, False]]
