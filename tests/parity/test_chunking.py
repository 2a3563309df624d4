"""A token budget of 64: prompts are computed in chunks, and canvases wait for their turn."""

from collections.abc import Callable

import pytest

from tests.parity.cases import RULES, Case, Yardstick
from tests.parity.engines import EnginePool

BUDGET = 64

Yardsticks = Callable[[int], Yardstick]


def some_lengths(reference: Yardstick, block: int) -> list[Case]:
    lengths = (1, 2 * block, 63, 64, 65, 64 + block - 1, 100, 127, 128, 129, 333)
    return [
        reference.draw(length, block + 3, block, rule=RULES[number])
        for number, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("block", [4, 8, 16, 32])
@pytest.mark.parametrize("every", [0, 2])
def test_chunked_prompts(
    block: int, every: int, engines: EnginePool, yardstick: Yardsticks
) -> None:
    reference = yardstick(block)
    cases = some_lengths(reference, block)
    outcomes = engines(block, max_num_batched_tokens=BUDGET).run(cases, every=every)
    reference.compare(cases, outcomes)
    assert any(outcome.prefills for outcome in outcomes)


@pytest.mark.parametrize("threshold", [32, 40, 100])
def test_chunks_of_long_prompts(threshold: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    """A bound on the chunks of one prompt must not cut a finished block from its canvas."""
    reference = yardstick(16)
    cases = some_lengths(reference, 16)
    outcomes = engines(16, long_prefill_token_threshold=threshold).run(cases)
    reference.compare(cases, outcomes)
    for case, outcome in zip(cases, outcomes, strict=True):
        assert outcome.prefills <= len(case.prompt) // (threshold // 16 * 16)


def test_too_short_chunks_are_refused(engines: EnginePool) -> None:
    """No canvas would ever fit."""
    with pytest.raises(ValueError, match="long-prefill-token-threshold"):
        engines(16, long_prefill_token_threshold=8)


def test_long_prompts_among_many(engines: EnginePool, yardstick: Yardsticks) -> None:
    """More canvases than the budget holds, and prompts that want it all."""
    reference = yardstick(16)
    cases = [
        reference.draw(250 if number % 3 == 0 else 5 + number, 40, 16, rule=RULES[number])
        for number in range(len(RULES))
    ]
    engine = engines(16, max_num_batched_tokens=BUDGET)
    reference.compare(cases, engine.run(cases, every=1))
