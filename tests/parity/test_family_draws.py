"""Drawn text against plain torch, with the generator written a second time.

SplitMix64 (Steele, Lea, Flood 2014) on a key of seed, position and step: number 0 of a key is a
uniform draw, number 1 + v the Gumbel noise of token v.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch

from tests.parity.cases import random_tokens
from tests.parity.families import SHIFTED, Family, FamilyCase, FamilyYardstick, Mode
from tests.parity.family_bench import DREAM, NEMOTRON, FamilyBench, make_bench
from tests.parity.references.causal_context import look_causally
from tests.parity.references.choose import Answer, Network, lead

bench = pytest.fixture(scope="module")(make_bench)

GAMMA = np.uint64(0x9E3779B97F4A7C15)
# Far more than what float32 makes of -log(-log(u)).
CLEAR = 1e-3


def mixed(word: np.ndarray) -> np.ndarray:
    """The finaliser, on unsigned words that wrap."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def uniforms(seed: int, position: int, step: int, numbers: Sequence[int]) -> np.ndarray:
    """In (0, 1), float64: the middles of 2^23 equal parts."""
    with np.errstate(over="ignore"):
        key = mixed(np.array([seed], dtype=np.uint64) + GAMMA)
        for counter in (position, step):
            key = mixed(key + np.uint64(counter))
        bits = mixed(key + np.array(numbers, dtype=np.uint64) * GAMMA) >> np.uint64(41)
    return (bits + 0.5) / 2**23


def uniform(seed: int, position: int, step: int) -> float:
    return float(uniforms(seed, position, step, [0])[0])


def gumbel(seed: int, position: int, step: int, vocab: int) -> torch.Tensor:
    """Float64 (V)."""
    noise = -np.log(-np.log(uniforms(seed, position, step, range(1, vocab + 1))))
    return torch.from_numpy(noise)


@torch.inference_mode()
def one_by_one(
    network: Network,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    seed: int,
    temperature: float,
    mask_id: int,
    stop_ids: Collection[int],
    **_: Any,
) -> Answer:
    """Draw a token from each causal row: argmax of logits / T + Gumbel noise of its position."""
    known, slack = list(prompt), float("inf")
    while len(known) < len(prompt) + max_tokens:
        row = look_causally(network, known, len(known) - 1, mask_id)[0]
        row = row.double() / temperature + gumbel(seed, len(known), 0, len(row))
        known.append(int(row.argmax()))
        slack = min(slack, lead(row))
        if known[-1] in stop_ids:
            break
    return Answer(known[len(prompt) :], len(known) - len(prompt), slack)


@dataclass(frozen=True, kw_only=True)
class DrawnCase(FamilyCase):
    """A request with a seed."""

    seed: int
    temperature: float = 0.0

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"seed": self.seed, "temperature": self.temperature}


def check(family: Family, cases: Sequence[DrawnCase], bench: FamilyBench) -> None:
    """Alone, at once, and staggered; a yardstick a request, since a seed is no part of its key."""
    engine = bench.engine(family)
    for outcomes in (engine.run(cases), engine.run(cases, every=3), engine.run_alone(cases[:2])):
        for case, outcome in zip(cases, outcomes, strict=False):
            FamilyYardstick(family, bench.checkpoint(family)).compare([case], [outcome])


def clear(family: Family, bench: FamilyBench, length: int, **fields: Any) -> DrawnCase:
    """The first random prompt without a near-tie."""
    for number in count():
        case = DrawnCase(prompt=random_tokens(length, number), **fields)
        if FamilyYardstick(family, bench.checkpoint(family))(case).slack > CLEAR:
            return case
    raise AssertionError


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_self_speculation_draws_what_causal_decoding_draws(
    temperature: float, bench: FamilyBench
) -> None:
    """A draft decides the speed alone, whatever the temperature."""
    cases = []
    for seed in (0, 7, 2**40 + 1):
        generate = partial(one_by_one, seed=seed, temperature=temperature)
        mode = Mode(fields={"policy": "self_speculation"}, generate=generate, counts_steps=False)
        said = {"seed": seed, "temperature": temperature, "mode": mode, "max_tokens": 24}
        cases.append(clear(NEMOTRON, bench, 29 + seed % 5, **said))
    check(NEMOTRON, cases, bench)


@pytest.mark.parametrize("max_steps", [None, 9])
def test_origin_transfers_by_chance(max_steps: int | None, bench: FamilyBench) -> None:
    """Which positions a step fills is drawn, also at temperature 0.

    The reference passes over steps that fill nothing, so it makes fewer forwards.
    """
    cases = []
    for seed in (1, 8):
        said = {"policy": "origin"} | ({} if max_steps is None else {"max_steps": max_steps})
        mode = Mode(
            fields=said,
            generate=partial(SHIFTED, uniform=partial(uniform, seed)),
            reference={"policy": "origin", "steps": max_steps},
            counts_steps=False,
        )
        cases.append(clear(DREAM, bench, 30, seed=seed, mode=mode, max_tokens=20))
    check(DREAM, cases, bench)
