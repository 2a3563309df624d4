"""Draws depend on the seed alone, in every mask group: not on the company, nor on a preemption."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.parity.cases import MIN_SLACK, random_tokens
from tests.parity.engines import Engine
from tests.parity.families import GUIDED, SPECULATION, STATIC, Family, Mode, clocked
from tests.parity.family_bench import (
    CANVASES,
    DREAM,
    EDITS,
    FAST,
    LLADA,
    LLADA2,
    NEMOTRON,
    SEEDED,
    FamilyBench,
    make_bench,
)
from tests.parity.references import causal_context
from tests.parity.references.choose import Network
from tests.parity.references.shaped import completes

bench = pytest.fixture(scope="module")(make_bench)

PROMPT = random_tokens(29, 0)
ORIGIN = clocked("origin", 12)

DRAWN = [
    pytest.param(FAST, SEEDED[0], 1.0, id="seeds"),
    pytest.param(LLADA2, EDITS[2], 1.0, id="edits"),
    pytest.param(NEMOTRON, CANVASES[0], 1.0, id="canvas"),
    pytest.param(NEMOTRON, SPECULATION, 1.0, id="speculation"),
    pytest.param(LLADA, STATIC, 1.0, id="full"),
    pytest.param(DREAM, ORIGIN, 1.0, id="origin"),
    pytest.param(DREAM, ORIGIN, 0.0, id="origin-greedy"),
]


def add(engine: Engine, name: str, mode: Mode, prompt: tuple[int, ...], **sampling: Any) -> None:
    extra = {f"diffusion_{key}": value for key, value in mode.fields.items()}
    engine.add(name, prompt, max_tokens=24, ignore_eos=True, extra_args=extra, **sampling)


def drawn(engine: Engine) -> list[int]:
    engine.drain()
    return engine.outcomes("drawn")[0].tokens


@pytest.mark.parametrize(("family", "mode", "temperature"), DRAWN)
def test_seeded_draws_repeat(
    family: Family, mode: Mode, temperature: float, bench: FamilyBench
) -> None:
    engine = bench.engine(family)
    said = {"seed": 1234, "temperature": temperature}
    add(engine, "drawn", mode, PROMPT, **said)
    alone = drawn(engine)

    for number in range(5):
        other = family.modes[number % len(family.modes)]
        add(engine, f"other-{number}", other, random_tokens(9 + 7 * number, 0), temperature=0.7)
        engine.step()
    add(engine, "drawn", mode, PROMPT, **said)
    assert drawn(engine) == alone

    for num_steps in (1, 4, 9):
        engine.fresh()
        add(engine, "other", mode, PROMPT, seed=1, temperature=1.0)
        add(engine, "drawn", mode, PROMPT, **said)
        for _ in range(num_steps):
            engine.step()
        assert engine.engine.reset_prefix_cache(reset_running_requests=True)
        assert drawn(engine) == alone
        assert "drawn" in engine.preempted

    add(engine, "drawn", mode, PROMPT, **said | {"seed": 4321})
    assert drawn(engine) != alone


class Biased:
    """A network whose logits are shifted, and without an end of sequence before a position."""

    def __init__(self, network: Network, bias: dict[int, float], eos: int, earliest: int) -> None:
        self.network, self.bias, self.eos, self.earliest = network, bias, eos, earliest

    def logits(self, tokens: list[int], mask: torch.Tensor, *args: Any) -> torch.Tensor:
        logits_TV: torch.Tensor = self.network.logits(tokens, mask, *args).clone()
        for token, value in self.bias.items():
            logits_TV[:, token] += value
        # A causal row speaks of the position behind it.
        is_causal = not mask[0, -1] and torch.equal(mask, mask.tril())
        logits_TV[: max(self.earliest - is_causal, 0), self.eos] = -torch.inf
        return logits_TV


@pytest.mark.parametrize("min_tokens", [0, 7])
def test_drafts_are_shaped_as_their_verification(min_tokens: int, bench: FamilyBench) -> None:
    """The text is the shaped autoregressive one, in as many forwards as the reference needs."""
    eos = NEMOTRON.eos_id
    bias = {20: 6.0, 21: 5.0, 300: 4.0, eos: 100.0 if min_tokens else 0.0}
    said = {"mask_id": NEMOTRON.mask_id, "block": NEMOTRON.block, "stop_ids": (eos,)}
    for seed in range(40):
        prompt = random_tokens(19, seed)
        plain = bench.yardstick(NEMOTRON).network
        network = Biased(plain, bias, eos, len(prompt) + min_tokens)
        want = causal_context.self_speculate(network, prompt, 24, **said)
        at_once = Biased(plain, bias, eos, 0)
        length = len(causal_context.self_speculate(at_once, prompt, 24, **said).tokens)
        if want.slack >= MIN_SLACK and (length <= min_tokens or not min_tokens):
            break
    else:
        pytest.fail("no prompt whose answer is clear and would end too early")
    engine = bench.engine(NEMOTRON)
    engine.add(
        "biased",
        prompt,
        max_tokens=24,
        min_tokens=min_tokens,
        temperature=0.0,
        logit_bias=bias,
        extra_args={"diffusion_policy": "self_speculation"},
    )
    engine.drain()
    (got,) = engine.outcomes("biased")
    assert (got.tokens, got.steps) == (want.tokens, want.steps)


@pytest.mark.parametrize("budget", [None, 16], ids=["whole", "chunked"])
def test_a_causal_prompt_has_scores(budget: int | None, bench: FamilyBench) -> None:
    options = {} if budget is None else {"max_num_batched_tokens": budget}
    engine = bench.engine(NEMOTRON, **options)
    prompts = {"long": random_tokens(37, 0), "short": random_tokens(5, 1), "one": (7,)}
    for name, prompt in prompts.items():
        engine.add(name, prompt, max_tokens=9, temperature=0.0, prompt_logprobs=2, logprobs=1)
    engine.drain()
    for name, prompt in prompts.items():
        sees_before = torch.ones(len(prompt), len(prompt)).bool().tril()
        logits_TV = bench.yardstick(NEMOTRON).network.logits(list(prompt), sees_before)
        first, *scored = engine.finished[name].prompt_logprobs
        assert first is None
        assert len(scored) == len(prompt) - 1
        rows = logits_TV[:-1].log_softmax(dim=-1)
        for entry, token, row_V in zip(scored, prompt[1:], rows, strict=True):
            assert set(entry) == {token, *row_V.topk(2).indices.tolist()}
            for id, score in entry.items():
                assert score.logprob == pytest.approx(float(row_V[id]), abs=1e-4)


@pytest.mark.parametrize(
    ("family", "mode"),
    [
        pytest.param(FAST, SEEDED[0], id="seeds"),
        pytest.param(LLADA2, EDITS[1], id="edits"),
        pytest.param(NEMOTRON, CANVASES[1], id="canvas"),
        pytest.param(LLADA, GUIDED, id="guided"),
        pytest.param(DREAM, clocked("maskgit_plus", 5), id="shifted"),
    ],
)
def test_wishes_hold_in_every_mask_group(family: Family, mode: Mode, bench: FamilyBench) -> None:
    """Words stay out, lengths hold, and each token has a score: its own where it is the best."""
    engine = bench.engine(family)
    plain = {"temperature": 0.0, "logprobs": 1}
    add(engine, "plain", mode, PROMPT, **plain)
    engine.drain()
    tokens = engine.outcomes("plain")[0].tokens
    words = [tokens[3:5], tokens[10:12], tokens[7:10], tokens[20:21]]
    wishes = {"bad_words_ids": words, "repetition_penalty": 1.3, "frequency_penalty": 0.2}
    add(engine, "asks", mode, PROMPT, **plain | wishes)
    add(engine, "plain-again", mode, PROMPT, **plain)
    engine.drain()
    assert engine.outcomes("plain-again")[0].tokens == tokens
    (completion,) = engine.finished["asks"].outputs
    for word in words:
        assert not completes(completion.token_ids, word)
    for name in ("plain", "asks"):
        (completion,) = engine.finished[name].outputs
        scores = completion.logprobs
        assert len(scores) == len(completion.token_ids) == 24
        for entry, token in zip(scores, completion.token_ids, strict=True):
            assert next(iter(entry)) == token
            assert all(score.logprob < 0 for score in entry.values())
            if name == "plain":
                assert len(entry) == entry[token].rank == 1
