"""A token budget of 64: each mask group cuts its prompts where it may, or not at all."""

from __future__ import annotations

import pytest

from tests.parity.families import Family, Mode
from tests.parity.family_bench import LLADA, FamilyBench, kinds, make_bench

BUDGET = 64
LENGTHS = (1, 32, 62, 63, 64, 65, 79, 80, 100, 127, 128, 129, 201)

bench = pytest.fixture(scope="module")(make_bench)


@pytest.mark.parametrize("every", [0, 2])
@kinds("block-causal", "edits", "canvas", "speculation")
def test_chunked_prompts(
    family: Family, modes: tuple[Mode, ...], every: int, bench: FamilyBench
) -> None:
    """Prompts want the whole budget, and so do the canvases beside them."""
    yardstick = bench.yardstick(family)
    cases = [
        yardstick.draw(length, 20, modes[number % len(modes)])
        for number, length in enumerate(LENGTHS)
    ]
    outcomes = bench.engine(family, max_num_batched_tokens=BUDGET).run(cases, every=every)
    yardstick.compare(cases, outcomes)
    assert all(o.prefills for c, o in zip(cases, outcomes, strict=True) if len(c.prompt) > BUDGET)


@kinds("full", "full-shifted")
def test_whole_sequences(family: Family, modes: tuple[Mode, ...], bench: FamilyBench) -> None:
    """A budget below the longest sequence is raised, and what does not fit waits."""
    engine = bench.engine(family, max_num_batched_tokens=BUDGET, max_model_len=128)
    assert engine.engine.vllm_config.scheduler_config.max_num_batched_tokens == 128
    yardstick = bench.yardstick(family, 128)
    cases = [
        yardstick.draw(length, 20, modes[number % len(modes)])
        for number, length in enumerate((1, 40, 63, 64, 65, 100, 108, 120))
    ]
    outcomes = engine.run(cases)
    yardstick.compare(cases, outcomes)
    assert not any(outcome.prefills for outcome in outcomes)


def test_a_smaller_limit_of_a_step_is_refused(bench: FamilyBench) -> None:
    with pytest.raises(ValueError, match="--long-prefill-token-threshold 64 is too small"):
        bench.engine(LLADA, long_prefill_token_threshold=BUDGET, max_model_len=128)
