"""Top-n-sigma sampling against plain loops: alone, with other fields, and under a constraint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from tests.parity.cases import MIN_SLACK, Yardstick, random_tokens
from tests.parity.engines import Engine, EnginePool
from tests.parity.references import top_n_sigma
from tests.parity.references.shaped import Wishes
from tests.parity.test_shaped import BLOCK, DRAWN, EOS, MASK, arguments, looks_at_block

HOT = replace(DRAWN, temperature=2.0)
CASES = {
    "alone": (HOT, 1.0),
    "narrow": (HOT, 0.3),
    "another-seed": (replace(HOT, seed=-5), 1.0),
    "off": (HOT, 0.0),
    "allowed": (replace(HOT, allowed_token_ids=(5, 9, 11, 200, 201, 202, 203)), 1.0),
    "bias": (replace(HOT, logit_bias={20: 5.0, 21: 5.0, 22: 4.0, 23: -100.0}), 0.5),
    "with-cuts": (replace(HOT, top_k=20, top_p=0.9, min_p=0.05), 1.5),
    "penalised": (replace(HOT, repetition_penalty=1.3, presence_penalty=0.5), 1.0),
}


@pytest.fixture(scope="module")
def engine(engines: EnginePool) -> Engine:
    return engines(BLOCK)


def said(wishes: Wishes, num_sigma: float) -> dict[str, Any]:
    fields = arguments(wishes, 1.0)
    return fields | {"extra_args": fields["extra_args"] | {"top_n_sigma": num_sigma}}


def clear(
    yardstick: Callable[[int], Yardstick], wishes: Wishes, num_sigma: float
) -> tuple[tuple[int, ...], list[int]]:
    """A prompt in whose decoding no decision is a near-tie, and its decoding."""
    look = looks_at_block(yardstick(BLOCK).model)
    for seed in count():
        prompt = random_tokens(13, seed)
        tokens, slack = top_n_sigma.generate(
            look,
            prompt,
            14,
            width=lambda known: BLOCK - known % BLOCK,
            mask_id=MASK,
            stop_ids=(EOS,),
            wishes=wishes,
            num_sigma=num_sigma or 1e6,
        )
        if slack >= MIN_SLACK / 10:
            return prompt, tokens
    raise AssertionError


@pytest.mark.parametrize("name", CASES)
def test_tokens_are_those_of_the_loops(
    name: str, engine: Engine, yardstick: Callable[[int], Yardstick]
) -> None:
    """In the company of a greedy request, and of one that leaves nothing out."""
    wishes, num_sigma = CASES[name]
    prompt, want = clear(yardstick, wishes, num_sigma)
    engine.fresh()
    engine.add("greedy", random_tokens(17, 0), max_tokens=14, temperature=0.0)
    engine.add("free", prompt, max_tokens=14, **arguments(HOT, 1.0))
    engine.add("asks", prompt, max_tokens=14, **said(wishes, num_sigma))
    engine.drain()
    (got,) = engine.outcomes("asks")
    assert got.tokens == want
    if wishes == HOT:
        assert (engine.outcomes("free")[0].tokens == want) == (num_sigma == 0)


def test_a_greedy_request_stays_as_it_is(engine: Engine) -> None:
    engine.fresh()
    prompt, greedy = random_tokens(13, 0), Wishes()
    engine.add("plain", prompt, max_tokens=14, **arguments(greedy, 1.0))
    engine.add("asks", prompt, max_tokens=14, **said(greedy, 0.5))
    engine.drain()
    assert engine.outcomes("asks") == engine.outcomes("plain")
