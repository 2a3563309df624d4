"""Sleep and dummy steps: requests that were under way come out as if nothing had been between."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.parity.cases import Case, Rule, Yardstick
from tests.parity.engines import Engine, EnginePool

BLOCK = 8
SLOW = (Rule("confidence", 1.0), Rule("static"))
STEPS = 5
"""Until some blocks are half denoised."""


@pytest.fixture
def engine(engines: EnginePool) -> Engine:
    return engines(BLOCK)


@pytest.fixture
def cases(yardstick: Callable[[int], Yardstick]) -> list[Case]:
    reference = yardstick(BLOCK)
    return [
        reference.draw(20 + 7 * n, 40, BLOCK, rule=SLOW[n % 2], ignore_eos=True) for n in range(4)
    ]


def begin(engine: Engine, cases: list[Case]) -> None:
    for number, case in enumerate(cases):
        engine.add(str(number), case.prompt, **case.arguments())
    for _ in range(STEPS):
        engine.step()
    assert not engine.finished


@pytest.mark.parametrize("level", [0, 1])
def test_requests_are_kept_over_sleep(
    level: int, engine: Engine, cases: list[Case], yardstick: Callable[[int], Yardstick]
) -> None:
    """Level 1 forgets K and V as well: blocks that were half denoised start over."""
    reference = yardstick(BLOCK)
    begin(engine, cases)
    engine.llm.sleep(level=level, mode="keep")
    forwards = engine.num_forwards
    for _ in range(3):
        engine.step()
    assert engine.num_forwards == forwards
    engine.llm.wake_up(["scheduling"] if level == 0 else None)
    engine.drain()
    outcomes = [engine.outcomes(str(number))[0] for number in range(len(cases))]
    assert [each.tokens for each in outcomes] == [reference(case).tokens for case in cases]
    assert bool(engine.preempted) == (level == 1)
    if level == 0:
        reference.compare(cases, outcomes)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_requests_are_aborted_by_sleep(
    level: int, engine: Engine, cases: list[Case], yardstick: Callable[[int], Yardstick]
) -> None:
    """What comes afterwards finds empty slots and a free cache."""
    reference, free = yardstick(BLOCK), engine.num_free_pages
    begin(engine, cases)
    engine.llm.sleep(level=level)
    assert not engine.scheduler.has_unfinished_requests()
    assert engine.num_free_pages == free
    engine.llm.wake_up(["scheduling"] if level == 0 else None)
    engine.fresh()
    reference.compare(cases, engine.run(cases))


def test_dummy_steps_change_nothing(
    engine: Engine, cases: list[Case], yardstick: Callable[[int], Yardstick]
) -> None:
    """An engine of several takes them while the others have work, and between its own steps."""
    engine.core.execute_dummy_batch()
    begin(engine, cases)
    while engine.engine.has_unfinished_requests():
        engine.core.execute_dummy_batch()
        engine.step()
    outcomes = [engine.outcomes(str(number))[0] for number in range(len(cases))]
    yardstick(BLOCK).compare(cases, outcomes)
