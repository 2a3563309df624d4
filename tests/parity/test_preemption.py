"""Too few KV pages: requests lose theirs in the middle of a block and are computed again."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.parity.cases import RULES, Case, Yardstick
from tests.parity.engines import Engine, EnginePool

Yardsticks = Callable[[int], Yardstick]

SCARCE: dict[str, Any] = {"max_model_len": 128, "num_gpu_blocks_override": 9}


def growing(reference: Yardstick, block: int) -> list[Case]:
    """Eight requests that all fit in the beginning and not in the end."""
    return [
        reference.draw(10 + 3 * number, 60, block, rule=RULES[number], max_len=128, ignore_eos=True)
        for number in range(8)
    ]


def check(reference: Yardstick, engine: Engine, cases: list[Case], outcomes: list[Any]) -> None:
    """Equal tokens always; equal steps where no unfinished block was lost."""
    assert engine.preempted
    kept = [n for n in range(len(cases)) if str(n) not in engine.preempted]
    assert len(kept) < len(cases)
    reference.compare([cases[n] for n in kept], [outcomes[n] for n in kept])
    for case, outcome in zip(cases, outcomes, strict=True):
        assert outcome.tokens == reference(case).tokens, f"{len(case.prompt)}, {case.rule}"
        assert outcome.steps >= reference(case).steps


@pytest.mark.parametrize("block", [4, 8, 16, 32])
@pytest.mark.parametrize("every", [0, 2])
def test_preempted_requests_start_over(
    block: int, every: int, engines: EnginePool, yardstick: Yardsticks
) -> None:
    reference, engine = yardstick(block), engines(block, **SCARCE)
    cases = growing(reference, block)
    check(reference, engine, cases, engine.run(cases, every=every))


@pytest.mark.parametrize("block", [8])
def test_preempted_by_priority(block: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    """The last to come are the most urgent, so any request may lose its pages in any step."""
    reference, engine = yardstick(block), engines(block, scheduling_policy="priority", **SCARCE)
    cases = growing(reference, block)
    for number, case in enumerate(cases):
        engine.add(str(number), case.prompt, priority=-number, **case.arguments())
        engine.step()
    engine.drain()
    outcomes = [engine.outcomes(str(number))[0] for number in range(len(cases))]
    check(reference, engine, cases, outcomes)


def test_preempted_in_chunks(engines: EnginePool, yardstick: Yardsticks) -> None:
    """What was lost is longer than the budget, so it comes back in chunks."""
    reference = yardstick(4)
    engine = engines(4, max_num_batched_tokens=32, **SCARCE)
    cases = growing(reference, 4)
    outcomes = engine.run(cases)
    check(reference, engine, cases, outcomes)
    assert any(outcomes[int(name)].prefills for name in engine.preempted)
