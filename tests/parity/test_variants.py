"""Other ways to run the same network: compiled, and in bfloat16."""

from collections.abc import Callable

import pytest

from tests.parity.cases import RULES, Case, Yardstick
from tests.parity.engines import EnginePool

Yardsticks = Callable[[int], Yardstick]


def some(reference: Yardstick, block: int) -> list[Case]:
    return [
        reference.draw(5 + 9 * number, 2 * block + 3, block, rule=rule, ignore_eos=True)
        for number, rule in enumerate(RULES)
    ]


@pytest.mark.slow
def test_compiled(engines: EnginePool, yardstick: Yardsticks) -> None:
    """vLLM's default; one graph serves all batch sizes."""
    reference, engine = yardstick(8), engines(8, enforce_eager=False)
    cases = some(reference, 8)
    reference.compare(cases, engine.run(cases, every=2))


def test_bfloat16_runs(engines: EnginePool, yardstick: Yardsticks) -> None:
    """Roundings decide otherwise here, so only the number of tokens is compared."""
    cases = some(yardstick(16), 16)
    outcomes = engines(16, dtype="bfloat16").run(cases, every=2)
    assert [len(outcome.tokens) for outcome in outcomes] == [case.max_tokens for case in cases]
    assert all(outcome.steps >= 3 for outcome in outcomes)
