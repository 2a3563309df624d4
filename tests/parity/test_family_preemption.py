"""Requests that lose their K and V in any step of any phase, and start their block again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.parity.engines import Engine, Outcome
from tests.parity.families import Family, FamilyCase, FamilyYardstick, Mode
from tests.parity.family_bench import FamilyBench, kinds, make_bench
from tests.parity.test_preemption import SCARCE

MAX_LEN = 128

bench = pytest.fixture(scope="module")(make_bench)


def growing(yardstick: FamilyYardstick, modes: Sequence[Mode]) -> list[FamilyCase]:
    """Eight requests of three pages in the end, of which eight are there."""
    return [yardstick.draw(10 + 3 * number, 60, modes[number % len(modes)]) for number in range(8)]


def check(
    yardstick: FamilyYardstick, engine: Engine, cases: list[FamilyCase], outcomes: list[Outcome]
) -> None:
    """Equal tokens always; equal steps where no unfinished block was lost."""
    lost = {int(name) for name in engine.preempted}
    kept = [number for number in range(len(cases)) if number not in lost]
    yardstick.compare([cases[n] for n in kept], [outcomes[n] for n in kept])
    for number in lost:
        want, got = yardstick(cases[number]), outcomes[number]
        assert got.tokens == want.tokens, f"{len(cases[number].prompt)}, {cases[number].mode}"
        assert got.steps >= want.steps


@kinds("block-causal", "edits", "canvas", "speculation")
def test_too_few_pages(family: Family, modes: tuple[Mode, ...], bench: FamilyBench) -> None:
    yardstick, engine = bench.yardstick(family, MAX_LEN), bench.engine(family, **SCARCE)
    cases = growing(yardstick, modes)
    outcomes = engine.run(cases, every=1)
    check(yardstick, engine, cases, outcomes)
    assert 0 < len(set(engine.preempted)) < len(cases)


@kinds("full", "full-shifted")
def test_whole_sequences_wait_for_pages(
    family: Family, modes: tuple[Mode, ...], bench: FamilyBench
) -> None:
    """They have all that they will ever need from the start, so none is ever taken back."""
    yardstick, engine = bench.yardstick(family, MAX_LEN), bench.engine(family, **SCARCE)
    cases = growing(yardstick, modes)
    yardstick.compare(cases, engine.run(cases, every=1))
    assert not engine.preempted


@kinds()
def test_in_every_step(family: Family, modes: tuple[Mode, ...], bench: FamilyBench) -> None:
    """All running requests lose everything at once, after a step that is another each time."""
    yardstick, engine = bench.yardstick(family, MAX_LEN), bench.engine(family, **SCARCE)
    cases = [yardstick.draw(29 + 7 * number, 20, mode) for number, mode in enumerate(modes[-3:])]
    for num_steps in (1, 2, 3, 4, 5, 7, 10):
        engine.fresh()
        for number, case in enumerate(cases):
            engine.add(str(number), case.prompt, **case.arguments())
        for _ in range(num_steps):
            engine.step()
        assert engine.engine.reset_prefix_cache(reset_running_requests=True)
        engine.drain()
        check(yardstick, engine, cases, [engine.outcomes(str(n))[0] for n in range(len(cases))])
        assert engine.preempted
