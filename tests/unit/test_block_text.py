"""Texts chosen by class of token against the same chosen token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.unit.structured_inputs import LIMITS, dfa_of, vocabulary_of
from vllm_diffusion.kernels import library
from vllm_diffusion.kernels.cpu_constrained import Job, NativeAutomaton, block_texts
from vllm_diffusion.kernels.dispatch import forced as forced_implementation
from vllm_diffusion.structured.block_text import Scores, block_text
from vllm_diffusion.structured.class_stats import class_stats, defined
from vllm_diffusion.structured.posterior import (
    Automata,
    Block,
    best_text,
    is_behind_end,
    is_forced,
    may_follow,
    summed,
)
from vllm_diffusion.structured.token_classes import TokenClasses
from vllm_diffusion.structured.token_dfa import automaton_of, over_tokens

SPELLED = [b"", b"", b"a", b"b", b"ab", b"1", b"2", b"12", b"a1", b"ba"]
STOP, MASK = 1, 0
REGEXES = ["(a|b){0,6}1", "ab(1|2){1,4}", "(ab)*12?", "a"]
LENGTH = 5


def rows(seed: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, len(SPELLED), generator=generator) * 2


@pytest.mark.parametrize("size", [10, 1000, 5000])
def test_class_statistics_equal_their_definition(size: int) -> None:
    rng = np.random.default_rng(size)
    logits = torch.from_numpy(rng.normal(0, 4, (5, size)).astype(np.float32))
    classes = [TokenClasses(rng.integers(0, 7, size).astype(np.int32), 7) for _ in range(3)]
    picked = np.array([4, 0, 2])
    wanted = defined(logits, picked, classes, 8, 3)
    found = class_stats(logits, picked, classes, 8, 3)
    assert (found.token == wanted.token).all()
    for name in ("total", "weighted", "first", "second"):
        a, b = getattr(found, name).double(), getattr(wanted, name).double()
        assert torch.allclose(a, b, atol=2e-5, rtol=1e-5), name


def test_nan_free_rows_of_minus_infinity() -> None:
    """What bad words leave out is in no class's sum."""
    logits = torch.full((1, 6), -torch.inf)
    logits[0, 2], logits[0, 5] = 1.0, 2.0
    classes = TokenClasses(np.array([0, 0, 1, 1, 2, 2], np.int32), 3)
    found = class_stats(logits, np.array([0]), [classes], 3, 0)
    assert found.token.tolist() == [[-1, 2, 5]]
    assert torch.allclose(found.total[0, 1:].exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    assert found.total[0, 0] == -torch.inf


@pytest.mark.parametrize("implementation", ["torch", "cpp"])
@pytest.mark.parametrize("trusted", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(12))
def test_a_text_by_class_is_the_text_by_token(
    seed: int, trusted: float, implementation: str
) -> None:
    vocabulary = vocabulary_of(SPELLED, never=[MASK, STOP])
    one = [automaton_of(over_tokens(dfa_of(r), vocabulary, LIMITS), (STOP,)) for r in REGEXES]
    automata = Automata.stack(one, torch.device("cpu"))
    count = len(REGEXES)
    rng = np.random.default_rng(seed)
    logits = rows(seed, count * LENGTH)
    logits[:, MASK] = -torch.inf
    log_p = logits.log_softmax(dim=-1).view(count, LENGTH, -1)
    fixed = torch.full((count, LENGTH), -1)
    if seed % 3 == 0:
        fixed[0, 0] = SPELLED.index(b"a")
    end = torch.tensor(rng.integers(2, LENGTH + 1, count))
    block = Block(log_p, fixed, torch.zeros(count, dtype=torch.int64), end, torch.full((count,), 3))
    with forced_implementation(implementation):
        to_exit, factor = summed(block, automata, has_factors=True)
        assert factor is not None
        token, state = best_text(block, automata)
        classes_R = [one[k].classes for k in range(count) for _ in range(LENGTH)]
        stats = class_stats(
            logits, np.arange(count * LENGTH), classes_R, automata.num_classes - 1, MASK
        )
        shape = (count, LENGTH, -1)
        parts = (stats.total, stats.weighted, stats.first, stats.second, stats.token.clamp(min=0))
        scores = Scores(*(part.view(shape) for part in parts))
        settled = np.maximum(fixed.numpy(), 0)
        class_KL = torch.from_numpy(
            np.stack([a.class_V[row] for a, row in zip(one, settled, strict=True)]).astype(np.int64)
        )
        found = block_text(scores, block, class_KL, automata, trusted)
    follows = may_follow(state, to_exit, block, automata)
    mass = log_p.exp().masked_fill(~follows, 0).sum(-1)
    is_open = (fixed < 0) & (torch.arange(LENGTH) < end[:, None])
    forced = is_forced(factor, block, automata) & is_open
    doubted = (mass < trusted) & is_open
    number = doubted.cumsum(1)
    is_first = doubted & (number == 1) & ~forced
    marginal = log_p + factor.gather(2, automata.class_KV[:, None].expand(log_p.shape))
    local = log_p.masked_fill(~follows, -torch.inf).log_softmax(-1).double()
    rule = torch.where(is_first[..., None], local, marginal.double())
    wanted_token = torch.where(is_first, local.argmax(-1), token)
    checked = is_open
    assert (found.token[checked] == wanted_token[checked]).all()
    assert (found.is_forced == forced)[checked].all()
    probs = rule.exp()
    wanted_prob = probs.gather(2, wanted_token[..., None])[..., 0]
    assert torch.allclose(found.prob[checked].double(), wanted_prob[checked], atol=1e-5)
    second = probs.topk(2, dim=-1).values[..., 1]
    assert torch.allclose(found.second[checked].double(), second[checked], atol=1e-5)
    entropy = torch.special.entr(probs).sum(-1)
    assert torch.allclose(found.entropy[checked].double(), entropy[checked], atol=1e-4)
    behind = is_behind_end(token, automata) | ((number > 0) & ~is_first)
    assert ((found.is_behind == behind) | forced)[checked].all()


@pytest.mark.skipif(library.library().functions is None, reason=library.library().reason)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("trusted", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(20))
def test_texts_in_one_call_are_those_defined(seed: int, trusted: float, dtype: torch.dtype) -> None:
    vocabulary = vocabulary_of(SPELLED, never=[MASK, STOP])
    one = [automaton_of(over_tokens(dfa_of(r), vocabulary, LIMITS), (STOP,)) for r in REGEXES]
    automata, count = Automata.stack(one, torch.device("cpu")), len(REGEXES)
    rng = np.random.default_rng(seed)
    logits = rows(seed, count * LENGTH).to(dtype)
    logits[torch.from_numpy(rng.random(logits.shape) < 0.1)] = -torch.inf
    masked = torch.from_numpy(rng.random((count, LENGTH)) < 0.8)
    # What is settled need not fit: then there is no text.
    tokens = torch.from_numpy(rng.integers(0, len(SPELLED), (count, LENGTH)))
    fixed = torch.where(masked, -1, tokens)
    start = np.array([rng.integers(0, a.num_states) for a in one])
    end, slack = rng.integers(0, LENGTH + 1, count), rng.integers(0, 6, count)
    native = [NativeAutomaton(a) for a in one]
    jobs = np.zeros((count, len(Job)), dtype=np.int64)
    jobs[:, Job.AUTOMATON] = [a.address for a in native]
    jobs[:, Job.TOKENS] = tokens.data_ptr() + np.arange(count) * LENGTH * 8
    jobs[:, Job.MASKED] = masked.data_ptr() + np.arange(count) * LENGTH
    jobs[:, Job.START], jobs[:, Job.END], jobs[:, Job.SLACK] = start, end, slack
    jobs[:, Job.ROW_START], jobs[:, Job.NUM_ROWS] = np.arange(count) * LENGTH, LENGTH
    found = block_texts(jobs, logits, LENGTH, MASK, trusted)

    classes_R = [one[k].classes for k in range(count) for _ in range(LENGTH)]
    stats = defined(logits, np.arange(count * LENGTH), classes_R, automata.num_classes - 1, MASK)
    shape = (count, LENGTH, -1)
    parts = (stats.total, stats.weighted, stats.first, stats.second, stats.token.clamp(min=0))
    scores = Scores(*(part.view(shape) for part in parts))
    settled = np.maximum(fixed.numpy(), 0)
    class_KL = torch.from_numpy(
        np.stack([a.class_V[row] for a, row in zip(one, settled, strict=True)]).astype(np.int64)
    )
    block = Block(None, fixed, *map(torch.from_numpy, (start, end, slack)))
    with forced_implementation("torch"):
        wanted = block_text(scores, block, class_KL, automata, trusted)
    is_open = masked & (torch.arange(LENGTH) < block.end_K[:, None])
    is_chosen = is_open & wanted.has_text[:, None]
    assert (found.is_chosen == is_chosen).all()
    assert torch.equal(found.token[is_chosen], wanted.token[is_chosen])
    for name in ("is_forced", "is_behind"):
        assert torch.equal(getattr(found, name)[is_chosen], getattr(wanted, name)[is_chosen]), name
        assert not getattr(found, name)[~is_chosen].any()
    for name in ("prob", "second", "entropy"):
        a, b = getattr(found, name)[is_chosen], getattr(wanted, name)[is_chosen]
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-4), name
