"""Forwards of a request = denoising steps and seeds + prefill chunks, in every mask group."""

from __future__ import annotations

import pytest

from tests.parity.families import Family, Mode
from tests.parity.family_bench import FAST, LLADA2, NEMOTRON, FamilyBench, kinds, make_bench

BUDGET = 64

bench = pytest.fixture(scope="module")(make_bench)


def num_prefill_chunks(family: Family, length: int, budget: int) -> int:
    """Chunks before the forward that has the canvas, or its seed, with all that is left.

    A chunk ends between blocks where those count from token 0, and leaves at least the token
    that a seed is read off.
    """
    if family not in (FAST, LLADA2, NEMOTRON):
        return 0
    grain = 1 if family is NEMOTRON else family.block
    has_seed = family is NEMOTRON or (family is FAST and length % grain == 0)
    end = length + 1 if has_seed else length // grain * grain + grain
    last = length - 1 if has_seed else length
    start = chunks = 0
    while end - start > budget:
        start += min(budget, last - start) // grain * grain
        chunks += 1
    return chunks


@pytest.mark.parametrize("budget", [None, BUDGET])
@kinds()
def test_forwards_are_steps_and_chunks(
    family: Family, modes: tuple[Mode, ...], budget: int | None, bench: FamilyBench
) -> None:
    from vllm_diffusion.metrics import decode_metrics

    yardstick = bench.yardstick(family, 256)
    options = {"max_num_batched_tokens": budget} if budget else {}
    lengths = (1, 63, 64, 65, 203) if budget else (32, 65)
    engine = bench.engine(family, max_model_len=256, **options)
    for number, length in enumerate(lengths):
        case = yardstick.draw(length, family.block % 20 + 3, modes[number % len(modes)])
        engine.fresh()
        engine.add("lone", case.prompt, **case.arguments())
        num_engine_steps = 0
        while engine.engine.has_unfinished_requests():
            engine.step()
            num_engine_steps += 1
        outcome = engine.outcomes("lone")[0]
        yardstick.compare([case], [outcome])
        assert outcome.prefills == num_prefill_chunks(family, length, budget or 256)
        assert engine.num_forwards == num_engine_steps == outcome.steps + outcome.prefills

        metrics = decode_metrics(engine.finished["lone"].outputs[0])
        assert metrics.num_denoising_steps == outcome.steps
        assert metrics.num_prefill_forwards == outcome.prefills
        assert metrics.num_tokens == len(outcome.tokens)
        assert metrics.tokens_per_forward == len(outcome.tokens) / engine.num_forwards


@kinds("block-causal", "edits", "canvas", "speculation")
def test_cached_prompts_save_chunks(
    family: Family, modes: tuple[Mode, ...], bench: FamilyBench
) -> None:
    yardstick = bench.yardstick(family)
    engine = bench.engine(family, max_num_batched_tokens=BUDGET)
    case = yardstick.draw(333, 12, modes[-1])
    first, second = engine.run_alone([case, case])
    yardstick.compare([case, case], [first, second])
    assert (first.prefills, first.cached) == (5, 0)
    assert (second.prefills, second.cached) == (0, 320)
    assert engine.num_forwards == first.steps + second.steps + 5
