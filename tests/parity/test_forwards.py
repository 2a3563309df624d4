"""Forwards of a request = denoising steps + prefill chunks. Committing costs none."""

from collections.abc import Callable

import pytest

from tests.parity.cases import RULES, Yardstick
from tests.parity.engines import EnginePool

Yardsticks = Callable[[int], Yardstick]

BUDGET = 64


def num_prefill_chunks(length: int, block: int, budget: int) -> int:
    """Chunks that do not reach the canvas: the last one shares its forward with a step."""
    chunks, left = 0, length // block * block + block
    while left > budget:
        left -= min(budget, left - block) // block * block
        chunks += 1
    return chunks


@pytest.mark.parametrize("block", [4, 16, 32])
@pytest.mark.parametrize("budget", [None, BUDGET])
def test_forwards_are_steps_and_chunks(
    block: int, budget: int | None, engines: EnginePool, yardstick: Yardsticks
) -> None:
    from vllm_diffusion.metrics import decode_metrics

    reference = yardstick(block)
    options = {"max_num_batched_tokens": budget} if budget else {}
    for number, length in enumerate((1, block, 63, 64, 65, 128, 200, 333)):
        engine = engines(block, **options)
        case = reference.draw(length, 2 * block + 3, block, rule=RULES[number])
        engine.add("lone", case.prompt, **case.arguments())
        num_engine_steps = 0
        while engine.engine.has_unfinished_requests():
            engine.step()
            num_engine_steps += 1
        outcome = engine.outcomes("lone")[0]
        reference.compare([case], [outcome])
        assert outcome.prefills == num_prefill_chunks(length, block, budget or 4096)
        assert engine.num_forwards == num_engine_steps == outcome.steps + outcome.prefills

        metrics = decode_metrics(engine.finished["lone"].outputs[0])
        assert metrics.num_denoising_steps == outcome.steps
        assert metrics.num_prefill_forwards == outcome.prefills
        assert metrics.num_forwards == engine.num_forwards
        assert metrics.num_tokens == len(outcome.tokens)
        assert sum(steps * n for steps, n in metrics.blocks_by_steps.items()) == outcome.steps
        assert metrics.tokens_per_forward == len(outcome.tokens) / engine.num_forwards


def test_cached_prompts_save_chunks(engines: EnginePool, yardstick: Yardsticks) -> None:
    reference, engine = yardstick(16), engines(16, max_num_batched_tokens=BUDGET)
    case = reference.draw(333, 20, 16)
    first, second = engine.run_alone([case, case])
    reference.compare([case, case], [first, second])
    assert (first.prefills, first.cached) == (5, 0)
    assert (second.prefills, second.cached) == (0, 320)
