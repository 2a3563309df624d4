"""Several completions of one prompt, and draws that depend on the seed alone."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.parity.cases import RULES, Yardstick, random_tokens
from tests.parity.engines import Engine, EnginePool
from tests.parity.test_preemption import SCARCE

Yardsticks = Callable[[int], Yardstick]

PROMPT = random_tokens(37, 0)
DRAWN: dict[str, Any] = {"n": 2, "temperature": 1.0, "seed": 1234, "max_tokens": 50}


def drawn(engine: Engine, **changes: Any) -> list[list[int]]:
    engine.add("drawn", PROMPT, **DRAWN | changes)
    engine.drain()
    return [outcome.tokens for outcome in engine.outcomes("drawn")]


def add_others(engine: Engine, reference: Yardstick, block: int, count: int) -> None:
    for number in range(count):
        case = reference.draw(
            10 + 2 * number, 60, block, rule=RULES[number % len(RULES)], max_len=128
        )
        engine.add(f"other-{number}", case.prompt, **case.arguments())


@pytest.mark.parametrize("block", [4, 16])
def test_two_greedy_completions(block: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    """vLLM refuses n=2 at temperature 0; with one candidate left it is the same."""
    reference, engine = yardstick(block), engines(block)
    case = reference.draw(37, 50, block)
    greedy = {"temperature": 1.0, "top_k": 1}
    engine.add("two", case.prompt, n=2, **case.arguments() | greedy)
    engine.drain()
    reference.compare([case, case], engine.outcomes("two"))


@pytest.mark.parametrize("block", [4, 16])
def test_seeded_draws_repeat(block: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    """Alone, in company, and after a preemption."""
    reference, engine = yardstick(block), engines(block)
    alone = drawn(engine)
    assert alone[0] != alone[1]

    add_others(engine, reference, block, 16)
    for _ in range(3):
        engine.step()
    assert drawn(engine) == alone

    scarce = engines(block, **SCARCE)
    add_others(scarce, reference, block, 6)
    assert drawn(scarce) == alone
    assert {"0_drawn", "1_drawn"} & set(scarce.preempted)


def test_completions_are_those_of_their_seeds(engines: EnginePool) -> None:
    """vLLM gives the n-th completion the seed plus n."""
    engine = engines(8)
    both = drawn(engine)
    assert [drawn(engine, n=1, seed=1234 + number)[0] for number in (0, 1)] == both
    assert drawn(engine, seed=4321) != both


def test_draws_without_a_seed_differ(engines: EnginePool) -> None:
    first, second = drawn(engines(8), seed=None)
    assert first != second


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}])
def test_one_candidate_left_is_greedy(
    narrow: dict[str, Any], engines: EnginePool, yardstick: Yardsticks
) -> None:
    reference, engine = yardstick(8), engines(8)
    cases = [reference.draw(30 + number, 20, 8, rule=rule) for number, rule in enumerate(RULES)]
    for number, case in enumerate(cases):
        engine.add(str(number), case.prompt, **case.arguments() | {"temperature": 1.5} | narrow)
    engine.drain()
    outcomes = [engine.outcomes(str(number))[0] for number in range(len(cases))]
    reference.compare(cases, outcomes)
