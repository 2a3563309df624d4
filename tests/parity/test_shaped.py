"""Sampling fields against plain loops: tokens, steps and log-probabilities, all in one batch.

One block-causal family, whose batches the C++ step serves, and one with full attention.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import count, product
from typing import Any

import pytest
import torch

from tests.checkpoints import llada
from tests.parity.cases import MIN_SLACK, Yardstick, random_tokens
from tests.parity.engines import Engine, EnginePool
from tests.parity.references import shaped
from tests.parity.references.network import Network
from tests.parity.references.shaped import Shaped, Wishes

MASK, EOS, TOP, BLOCK = 509, 2, 3, 8
DRAWN = Wishes(temperature=0.7, seed=77)

KNOBS = {
    "bias": Wishes(logit_bias={20: 3.0, 300: 2.5, 41: -2.0}),
    "allowed": Wishes(allowed_token_ids=(5, 9, 11, 200, 201, 202, 203)),
    "min-tokens": Wishes(logit_bias={EOS: 6.0}, min_tokens=7, stop_token_ids=(EOS,)),
    "repetition": Wishes(repetition_penalty=1.8),
    "frequency": Wishes(frequency_penalty=0.9, logit_bias={20: 3.0}),
    "presence": Wishes(presence_penalty=1.5, allowed_token_ids=(5, 9, 11, 12)),
    "single-words": Wishes(bad_words=((20,), (300,)), logit_bias={20: 9.0, 300: 9.0, 7: 2.0}),
    "min-p": replace(DRAWN, min_p=0.3, temperature=1.5),
    "cuts": replace(DRAWN, top_k=9, top_p=0.8, min_p=0.05, temperature=1.2),
    "drawn-bias": replace(DRAWN, logit_bias={20: 3.0, 21: 3.0}, frequency_penalty=1.0),
    "mixture": replace(
        DRAWN,
        logit_bias={30: 4.0, 31: 4.0, 32: 4.0, EOS: 4.0},
        min_tokens=9,
        stop_token_ids=(EOS,),
        bad_words=((30, 31), (31,), (32, 32, 32)),
        repetition_penalty=1.2,
        presence_penalty=0.3,
        min_p=0.1,
    ),
}
WORDS = Wishes(
    logit_bias={30: 9.0, 31: 8.9, 32: 8.8},
    frequency_penalty=0.2,
    bad_words=((30, 31), (31, 30), (30, 30), (32, 31, 30), (31, 31, 31)),
)
LOW = 0.004
"""Lets several positions of these flat distributions in, and not all."""
DECODED = {
    **{name: (wishes, LOW) for name, wishes in KNOBS.items()},
    "words-at-once": (WORDS, 0.0),
    "words-one-by-one": (WORDS, 1.0),
    "words-drawn": (replace(WORDS, temperature=0.8, seed=5), 0.0),
}
FULL = ("min-tokens", "frequency", "mixture", "cuts", "words-drawn")
"""With full attention as well; the others ask nothing of where a canvas is."""
CASES = [
    *(pytest.param("block-causal", *DECODED[name], id=name) for name in DECODED),
    *(pytest.param("full", *DECODED[name], id=f"full-{name}") for name in FULL),
]


@dataclass(frozen=True)
class Model:
    """An engine and the same checkpoint in plain torch."""

    engine: Engine
    look: Callable[[int], shaped.Look]
    """By the length of prompt and whole output."""
    width: Callable[[int, int], int]
    """Of a canvas, by known tokens and that length."""

    def reference(self, prompt: tuple[int, ...], num: int, w: Wishes, threshold: float) -> Shaped:
        last = len(prompt) + num
        return shaped.generate(
            self.look(last),
            prompt,
            num,
            width=lambda known: self.width(known, last),
            mask_id=MASK,
            stop_ids=(EOS,),
            wishes=w,
            threshold=threshold,
        )


def masked(canvas: list[int | None]) -> list[int]:
    return [MASK if token is None else token for token in canvas]


def looks_at_block(plain: Any) -> shaped.Look:
    def logits(known: list[int], canvas: list[int | None]) -> torch.Tensor:
        return plain.logits(known + masked(canvas), BLOCK, len(known))

    return logits


def looks_at_all(network: Network, last: int) -> shaped.Look:
    def logits(known: list[int], canvas: list[int | None]) -> torch.Tensor:
        tokens = known + masked(canvas)
        tokens += [MASK] * (last - len(tokens))
        sees_all = torch.ones(last, last).bool()
        return network.logits(tokens, sees_all)[len(known) : len(known) + len(canvas)]

    return logits


@pytest.fixture(scope="module")
def models(
    engines: EnginePool,
    yardstick: Callable[[int], Yardstick],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Model]:
    """By the name of the attention."""

    @cache
    def make(attention: str) -> Model:
        if attention == "block-causal":
            look = looks_at_block(yardstick(BLOCK).model)
            return Model(engines(BLOCK), lambda _: look, lambda known, _: BLOCK - known % BLOCK)
        folder = llada.write(tmp_path_factory.mktemp("llada"))
        network = Network(folder)
        return Model(
            engines(folder, diffusion_config={"canvas_length": BLOCK}),
            lambda last: looks_at_all(network, last),
            lambda known, last: min(BLOCK, last - known),
        )

    return make


def arguments(w: Wishes, threshold: float) -> dict[str, Any]:
    return {
        "logit_bias": w.logit_bias or None,
        "allowed_token_ids": list(w.allowed_token_ids) or None,
        "bad_words_ids": w.bad_words,
        "stop_token_ids": list(w.stop_token_ids),
        "extra_args": {"diffusion_policy": "confidence", "diffusion_threshold": threshold},
        **{
            name: getattr(w, name)
            for name in (
                *("min_tokens", "repetition_penalty", "frequency_penalty", "presence_penalty"),
                *("temperature", "top_k", "top_p", "min_p", "seed"),
            )
        },
    }


def clear(model: Model, w: Wishes, threshold: float) -> tuple[tuple[int, ...], Shaped]:
    """A prompt in whose decoding no decision is a near-tie, and its decoding."""
    for seed in count():
        prompt = random_tokens(13, seed)
        want = model.reference(prompt, 21, w, threshold)
        if want.slack >= (MIN_SLACK / 10 if w.bad_words else MIN_SLACK):
            return prompt, want
    raise AssertionError


@pytest.mark.parametrize(("attention", "wishes", "threshold"), CASES)
def test_tokens_are_those_of_the_loops(
    attention: str, wishes: Wishes, threshold: float, models: Callable[[str], Model]
) -> None:
    model = models(attention)
    prompt, want = clear(model, wishes, threshold)
    engine = model.engine.fresh()
    engine.add("other", random_tokens(17, 0), max_tokens=30, temperature=0.0)
    engine.drain()
    alone = engine.outcomes("other")

    engine.fresh()
    engine.add("other", random_tokens(17, 0), max_tokens=30, temperature=0.0)
    engine.add("asks", prompt, max_tokens=21, logprobs=TOP, **arguments(wishes, threshold))
    engine.drain()
    assert engine.outcomes("other") == alone
    (got,) = engine.outcomes("asks")
    assert (got.tokens, got.steps) == (want.tokens, want.steps)
    for word in wishes.bad_words:
        assert not shaped.completes(got.tokens, word)

    (completion,) = engine.finished["asks"].outputs
    assert len(completion.logprobs) == len(want.tokens)
    for entry, token, row_V in zip(completion.logprobs, want.tokens, want.raw_VT, strict=True):
        top = row_V.topk(TOP)
        assert set(entry) == {token, *top.indices.tolist()}
        for id, logprob in entry.items():
            assert logprob.logprob == pytest.approx(float(row_V[id]), abs=1e-4)
        assert entry[token].rank == int((row_V >= row_V[token]).sum())


def test_a_preempted_request_ends_the_same(models: Callable[[str], Model]) -> None:
    model, (wishes, threshold) = models("block-causal"), DECODED["mixture"]
    prompt, want = clear(model, wishes, threshold)
    for num_steps in (1, want.steps // 2, want.steps - 1):
        engine = model.engine.fresh()
        engine.add("asks", prompt, max_tokens=21, logprobs=TOP, **arguments(wishes, threshold))
        for _ in range(num_steps):
            engine.step()
        assert engine.engine.reset_prefix_cache(reset_running_requests=True)
        engine.drain()
        assert engine.preempted == ["asks"]
        (completion,) = engine.finished["asks"].outputs
        assert list(completion.token_ids) == want.tokens
        found = [
            entry[token].logprob
            for entry, token in zip(completion.logprobs, want.tokens, strict=True)
        ]
        scored = zip(want.raw_VT, want.tokens, strict=True)
        assert found == pytest.approx([float(row_V[token]) for row_V, token in scored], abs=1e-4)


def test_named_tokens_among_others(models: Callable[[str], Model]) -> None:
    """Requests of different widths in one batch, and a drawn one of the shaped distribution."""
    model, plain = models("block-causal"), Wishes()
    prompt, want = clear(model, plain, 0.004)
    engine = model.engine.fresh()
    said = arguments(plain, 0.004) | {"max_tokens": 21}
    engine.add("none", prompt, **said)
    engine.add("own", prompt, logprobs=0, **said)
    engine.add("named", prompt, logprob_token_ids=[7, 9, 300, 301], **said)
    engine.add("all", prompt, logprobs=2, **said)
    engine.drain()
    outputs = {name: engine.finished[name].outputs[0] for name in ("none", "own", "named", "all")}
    assert outputs["none"].logprobs is None
    wanted = zip(want.tokens, want.raw_VT, strict=True)
    for (token, row_V), *entries in zip(
        wanted, *(outputs[name].logprobs for name in ("own", "named", "all")), strict=True
    ):
        ids = ({token}, {token, 7, 9, 300, 301}, {token, *row_V.topk(2).indices.tolist()})
        for entry, expected in zip(entries, ids, strict=True):
            assert set(entry) == expected
            for id, logprob in entry.items():
                assert logprob.logprob == pytest.approx(float(row_V[id]), abs=1e-4)
    total = sum(float(row_V[token]) for token, row_V in zip(want.tokens, want.raw_VT, strict=True))
    assert outputs["own"].cumulative_logprob == pytest.approx(total, abs=1e-3)


def test_pairs_come_as_often_as_they_should(models: Callable[[str], Model]) -> None:
    """Two tokens of six, one a step, against the exact distribution."""
    model = models("block-causal")
    ids = (5, 9, 11, 200, 201, 202)
    prompt, num, temperature = random_tokens(6, 0), 600, 2.0
    # Biases that make all of them likely, somewhere.
    flat = -model.look(8)(list(prompt), [None, None])[:, list(ids)].mean(dim=0)
    bias = dict(zip(ids, flat.tolist(), strict=True))
    wishes = Wishes(allowed_token_ids=ids, logit_bias=bias, presence_penalty=0.8)
    engine = model.engine.fresh()
    for seed in range(num):
        said = arguments(replace(wishes, temperature=temperature, seed=seed), 1.0)
        engine.add(str(seed), prompt, max_tokens=2, **said)
    engine.drain()
    found = Counter(tuple(engine.outcomes(str(seed))[0].tokens) for seed in range(num))

    def probs(canvas: list[int | None]) -> tuple[list[list[float]], list[list[float]]]:
        """How sure the model is of each token, and how often it is drawn."""
        logits = model.look(8)(list(prompt), canvas)
        shape = [shaped.shape(logits[i], i, list(prompt), [], canvas, wishes) for i in range(2)]
        rows = torch.stack(shape)[:, list(ids)].double()
        return rows.softmax(-1).tolist(), (rows / temperature).softmax(-1).tolist()

    sure, drawn = probs([None, None])
    again = {
        (i, t): probs([t, None] if i == 0 else [None, t])[1][1 - i] for i in (0, 1) for t in ids
    }
    exact = Counter[tuple[int, ...]]()
    for (a, first), (b, second) in product(enumerate(ids), repeat=2):
        # The surer of the two draws stays, the other is drawn again.
        kept = 0 if sure[0][a] >= sure[1][b] else 1
        for c, third in enumerate(ids):
            pair = (first, third) if kept == 0 else (third, second)
            there = again[kept, second if kept else first][c]
            exact[pair] += drawn[0][a] * drawn[1][b] * there
    assert chi_square(found, exact, num) > 0.01


def chi_square(found: Counter, exact: Counter, num: int) -> float:
    """p of Pearson's test; what is expected too seldom for it counts as one."""
    common = [key for key, p in exact.items() if p * num >= 5]
    observed = [found[key] for key in common]
    expected = [exact[key] * num for key in common]
    observed.append(num - sum(observed))
    expected.append(num - sum(expected))
    assert len(common) > 10
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    freedom = torch.tensor(len(common) / 2)
    return float(torch.special.gammaincc(freedom, torch.tensor(statistic / 2)))
