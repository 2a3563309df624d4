"""The automaton's answers against brute force over all strings of tiny vocabularies."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.structured_inputs import LIMITS, dfa_of, vocabulary_of
from vllm_diffusion.kernels.dispatch import forced as forced_implementation
from vllm_diffusion.structured.posterior import (
    Automata,
    Block,
    best_text,
    is_behind_end,
    is_forced,
    may_follow,
    path,
    summed,
)
from vllm_diffusion.structured.token_dfa import Automaton, automaton_of, over_tokens

SPELLED = [b"a", b"b", b"ab", b"1", b"<mask>", b"<stop>", b"<also>"]
MASK, STOPS = 4, (5, 6)
REGEXES = [
    "yes|a",
    "ab|ba|b1",
    "a*b",
    "(ab)+1?",
    "[ab]{2,4}",
    "a|ab|abb",
    "1(a|b1)*",
    "(a|b){0,3}1",
    "a*?b?",
    "(a*b*)*1",
]


@functools.cache
def compile_regex(regex: str) -> Automaton:
    """With every way to cut a text into tokens."""
    vocabulary = vocabulary_of(SPELLED, [MASK, *STOPS])
    return automaton_of(over_tokens(dfa_of(regex), vocabulary, LIMITS, is_cut=False), STOPS)


def spell(tokens: tuple[int, ...]) -> str | None:
    """The text of the tokens; None with a token that is no text."""
    if any(token >= MASK for token in tokens):
        return None
    return b"".join(SPELLED[token] for token in tokens).decode()


def ends_well(regex: str, tokens: tuple[int, ...]) -> bool | None:
    """Whether the text up to its stop token matches; None where there is no stop token."""
    at = next((i for i, token in enumerate(tokens) if token in STOPS), None)
    if at is None:
        return None
    text = spell(tokens[:at])
    return text is not None and re.fullmatch(regex, text) is not None


def completions(slack: int) -> Iterator[tuple[int, ...]]:
    texts = range(MASK)
    for length in range(slack):
        for rest in itertools.product(texts, repeat=length):
            yield (*rest, STOPS[0])


@functools.cache
def is_valid(regex: str, tokens: tuple[int, ...], slack: int) -> bool:
    ended = ends_well(regex, tokens)
    if ended is not None:
        return ended
    return any(ends_well(regex, (*tokens, *rest)) for rest in completions(slack))


def brute_force(
    regex: str, log_p_LV: torch.Tensor, fixed: list[int], end: int, slack: int
) -> dict[tuple[int, ...], float]:
    """Every valid canvas of ``end`` tokens with its probability, not normalised."""
    options = [[token] if token >= 0 else range(len(SPELLED)) for token in fixed[:end]]
    found = {}
    for tokens in itertools.product(*options):
        if is_valid(regex, tokens, slack):
            score = sum(
                log_p_LV[i, token].double().item() for i, token in enumerate(tokens) if fixed[i] < 0
            )
            found[tokens] = score
    return found


def block_of(
    regexes: list[str], log_p_KLV: torch.Tensor, fixed: list[list[int]], ends: list[int], slack: int
) -> tuple[Block, Automata]:
    automata = [compile_regex(regex) for regex in regexes]
    block = Block(
        log_p_KLV=log_p_KLV,
        fixed_KL=torch.tensor(fixed),
        start_K=torch.tensor([automaton.start for automaton in automata]),
        end_K=torch.tensor(ends),
        slack_K=torch.full((len(regexes),), slack),
    )
    return block, Automata.stack(automata, torch.device("cpu"))


def random_log_p(seed: int, count: int, length: int, scale: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, length, len(SPELLED), generator=generator) * scale
    logits[..., MASK] = -torch.inf
    return logits.log_softmax(dim=-1)


@pytest.mark.parametrize("implementation", ["torch", "cpp"])
@settings(max_examples=40, deadline=None)
@given(
    regexes=st.lists(st.sampled_from(REGEXES), min_size=1, max_size=3),
    seed=st.integers(0, 10**6),
    length=st.integers(1, 4),
    slack=st.integers(0, 3),
    scale=st.sampled_from([0.3, 3.0, 60.0]),
    data=st.data(),
)
def test_best_text_and_marginals_equal_brute_force(
    implementation, regexes, seed, length, slack, scale, data
):
    log_p = random_log_p(seed, len(regexes), length, scale)
    ends = [data.draw(st.integers(1, length)) for _ in regexes]
    fixed = []
    for k, (regex, end) in enumerate(zip(regexes, ends, strict=True)):
        valid = brute_force(regex, log_p[k], [-1] * length, end, slack)
        row = [-1] * length
        if valid and data.draw(st.booleans()):
            # Some positions of a valid text are settled.
            text = data.draw(st.sampled_from(sorted(valid)))
            for at in data.draw(st.sets(st.integers(0, end - 1))):
                row[at] = text[at]
        fixed.append(row)
    block, automata = block_of(regexes, log_p, fixed, ends, slack)
    with forced_implementation(implementation):
        best_KL, state_KL = best_text(block, automata)
        to_exit, factor = summed(block, automata, has_factors=True)
    marginal = (
        log_p.double() + factor.gather(2, automata.class_KV[:, None].expand(log_p.shape))
    ).exp()
    forced = is_forced(factor, block, automata)
    following = may_follow(state_KL, to_exit, block, automata)
    for k, (regex, end) in enumerate(zip(regexes, ends, strict=True)):
        expected = brute_force(regex, log_p[k], fixed[k], end, slack)
        if not expected:
            continue  # too short for any text: what happens then is tested below
        found = tuple(best_KL[k, :end].tolist())
        assert expected[found] == pytest.approx(max(expected.values()), rel=1e-6, abs=1e-5)
        total = torch.tensor(list(expected.values()), dtype=torch.float64).logsumexp(0).item()
        exact = torch.zeros(length, len(SPELLED), dtype=torch.float64)
        for tokens, score in expected.items():
            for at, token in enumerate(tokens):
                exact[at, token] += torch.tensor(score - total).double().exp()
        for at in range(end):
            if fixed[k][at] < 0:
                torch.testing.assert_close(marginal[k, at], exact[at], atol=1e-6, rtol=1e-5)
            here = {tokens[at] for tokens in expected if tokens[:at] == found[:at]}
            if fixed[k][at] < 0:
                assert set(following[k, at].nonzero()[:, 0].tolist()) == here
            is_one = len({tokens[at] for tokens in expected}) == 1 and fixed[k][at] < 0
            assert forced[k, at] == is_one


def test_larger_automata_are_the_same_in_both():
    """Forty positions and hundreds of edges, in a batch of unlike ones."""
    regexes = ["[ab1]{20,40}", "(ab|ba|1{3}){4,}", "a?b?1?(a|b1){0,30}"]
    length = 40
    log_p = random_log_p(3, len(regexes), length, 2.0)
    fixed = [[-1] * length for _ in regexes]
    fixed[0][7] = 1
    block, automata = block_of(regexes, log_p, fixed, [length, 31, 40], 5)
    found = {}
    for implementation in ("torch", "cpp"):
        with forced_implementation(implementation):
            to_exit, factor = summed(block, automata, has_factors=True)
            found[implementation] = (*best_text(block, automata), to_exit, factor)
    assert found["torch"][0].equal(found["cpp"][0])
    assert found["torch"][1].equal(found["cpp"][1])
    for ours, theirs in zip(found["torch"][2:], found["cpp"][2:], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def test_what_stands_behind_the_end_of_a_text():
    _, automata = block_of(["a*", "b*"], random_log_p(0, 2, 4, 1.0), [[-1] * 4] * 2, [4, 4], 0)
    tokens = torch.tensor([[0, 5, 3, 5], [1, 1, 1, 6]])
    expected = [[False, False, True, True], [False] * 4]
    assert is_behind_end(tokens, automata).tolist() == expected


def test_draws_have_the_exact_distribution():
    length, slack, count = 3, 1, 20_000
    log_p = random_log_p(5, 1, length, 1.0)
    expected = brute_force("(a|b){0,3}1", log_p[0], [-1] * length, length, slack)
    log_p_KLV = log_p.expand(count, -1, -1)
    block, automata = block_of(["(a|b){0,3}1"], log_p, [[-1] * length], [length], slack)
    block = Block(
        log_p_KLV,
        *(
            x.expand(count, *x.shape[1:])
            for x in (block.fixed_KL, block.start_K, block.end_K, block.slack_K)
        ),
    )
    names = ("src_KE", "class_KE", "dst_KE", "size_KC", "sample_KC", "is_single_KC", "distance_KN")
    expanded = {name: getattr(automata, name).expand(count, -1) for name in names}
    automata = replace(
        automata,
        class_V=automata.class_V * count,
        stop_K=automata.stop_K.expand(count),
        **expanded,
    )
    generator = torch.Generator().manual_seed(1)

    def noise(at: int) -> torch.Tensor:
        u = torch.rand(count, len(SPELLED), generator=generator).clamp(1e-9, 1 - 1e-7)
        return -(-u.log()).log()

    to_exit, _ = summed(block, automata, has_factors=False)
    drawn, _ = path(log_p_KLV, to_exit, block, automata, noise)
    counts: dict[tuple[int, ...], int] = dict.fromkeys(expected, 0)
    for row in drawn.tolist():
        counts[tuple(row)] += 1  # an invalid text is a KeyError
    total = torch.tensor(list(expected.values()), dtype=torch.float64).logsumexp(0).item()
    probs = torch.tensor([score - total for score in expected.values()]).exp() * count
    found = torch.tensor(list(counts.values())).float()
    often = probs >= 5
    chi = ((found - probs) ** 2 / probs)[often].sum().item()
    half = torch.tensor([(often.sum().item() - 1) / 2, chi / 2])
    assert torch.special.gammaincc(half[0], half[1]).item() > 0.01


def test_a_text_that_does_not_fit_gets_as_near_to_its_end_as_it_can():
    log_p = random_log_p(0, 1, 2, 1.0)
    block, automata = block_of(["(ab){6}"], log_p, [[-1, -1]], [2], 0)
    found, _ = best_text(block, automata)
    assert found.tolist() == [[2, 2]]  # "abab": no other two tokens get that far


def test_a_forced_token_may_be_arbitrarily_improbable():
    log_p = torch.full((1, 4, len(SPELLED)), -1e4)
    log_p[..., 3] = 0.0  # the model is sure of a token that never may come
    block, automata = block_of(["ab"], log_p, [[0, -1, -1, -1]], [4], 0)
    _, factor = summed(block, automata, has_factors=True)
    marginal = log_p[0, 1, 1] + factor[0, 1, automata.class_KV[0, 1]]
    assert marginal.exp().item() == pytest.approx(1.0, abs=1e-6)
