"""Sampling fields against plain loops: tokens, steps and log-probabilities, all in one batch.

One block-causal family, whose batches the C++ step serves, and one with full attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import llada
from tests.parity.cases import MIN_SLACK, Yardstick, random_tokens
from tests.parity.engines import Engine, EnginePool
from tests.parity.references import shaped
from tests.parity.references.network import Network
from tests.parity.references.shaped import Shaped, Wishes

MASK, EOS, TOP = 509, 2, 3
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
BOTH = ("min-tokens", "frequency", "mixture", "cuts")
"""With full attention as well; the others ask nothing of where a canvas is."""
WISHES = [
    *(pytest.param(wishes, 0.004, id=name) for name, wishes in KNOBS.items()),
    pytest.param(WORDS, 0.0, id="words-at-once"),
    pytest.param(WORDS, 1.0, id="words-one-by-one"),
    pytest.param(replace(WORDS, temperature=0.8, seed=5), 0.0, id="words-drawn"),
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


@pytest.fixture(scope="module", params=["block-causal", "full"])
def model(
    request: pytest.FixtureRequest,
    engines: EnginePool,
    yardstick: Callable[[int], Yardstick],
    tmp_path_factory: pytest.TempPathFactory,
) -> Model:
    if request.param == "block-causal":
        plain = yardstick(8).model

        def look(_: int) -> shaped.Look:
            def logits(known: list[int], canvas: list[int | None]) -> torch.Tensor:
                return plain.logits(known + masked(canvas), 8, len(known))

            return logits

        return Model(engines(8), look, lambda known, _: 8 - known % 8)

    folder: Path = llada.write(tmp_path_factory.mktemp("llada"), mask_token_id=MASK)
    network = Network(folder)

    def look_at_all(last: int) -> shaped.Look:
        def logits(known: list[int], canvas: list[int | None]) -> torch.Tensor:
            tokens = known + masked(canvas)
            tokens += [MASK] * (last - len(tokens))
            sees_all = torch.ones(last, last).bool()
            return network.logits(tokens, sees_all)[len(known) : len(known) + len(canvas)]

        return logits

    engine = engines(folder, diffusion_config={"canvas_length": 8})
    return Model(engine, look_at_all, lambda known, last: min(8, last - known))


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


@pytest.mark.parametrize(("wishes", "threshold"), WISHES)
def test_tokens_are_those_of_the_loops(
    model: Model, wishes: Wishes, threshold: float, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    if name.startswith("full") and not name.endswith((*BOTH, "words-drawn")):
        pytest.skip("where a canvas is does not matter to it")
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
