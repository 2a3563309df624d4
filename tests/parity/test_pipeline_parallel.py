"""Ranks in a pipeline: the first one embeds, the last one denoises, steps overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.parity import pipelines
from tests.parity.cases import RULES, Yardstick
from tests.parity.engines import EnginePool
from tests.parity.families import Family, Mode
from tests.parity.family_bench import FamilyBench, kinds, make_bench

Yardsticks = Callable[[int], Yardstick]

bench = pytest.fixture(scope="module")(make_bench)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_ranks")]


@pytest.mark.parametrize("num_tp_ranks", [1, 2])
def test_prompts_and_canvases_overlap(
    num_tp_ranks: int, engines: EnginePool, yardstick: Yardsticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long prompts come in chunks, of which several are under way; others are denoised meanwhile.

    The second time, whole pages come from the prefix cache.
    """
    reference = yardstick(8)
    cases = [reference.draw(6 + 45 * n, 19, 8, rule=rule) for n, rule in enumerate(RULES[:7])]
    # The ranks are processes of their own; ending them ends this process's groups as well.
    engines.close()
    ranks = {"pipeline_parallel_size": 2, "tensor_parallel_size": num_tp_ranks}
    engine = engines(8, max_num_batched_tokens=64, **ranks)
    try:
        pipeline = engine.scheduler.pipeline
        beside: list[tuple[int, int]] = []
        send = pipeline.send

        def watch(canvases: Iterable[str]) -> None:
            beside.append((len(list(canvases)), len(pipeline.under_way)))
            send(canvases)

        monkeypatch.setattr(pipeline, "send", watch)
        for every in (0, 1):
            outcomes = engine.run(cases, every=every)
            reference.compare(cases, outcomes)
        assert any(outcome.cached for outcome in outcomes)
        assert any(num_canvases and num_under_way for num_canvases, num_under_way in beside)
    finally:
        engines.close()


@kinds("block-causal", "edits", "speculation", "full")
def test_a_family_in_a_pipeline(
    family: Family, modes: tuple[Mode, ...], bench: FamilyBench
) -> None:
    """Greedy text equals the reference, drawn text what one rank draws; whatever happens."""
    expected = pipelines.draw_with_seed(bench.engine(family), modes[0])
    bench.engines.close()
    yardstick = bench.yardstick(family, pipelines.MAX_LEN)
    options: dict[str, Any] = pipelines.OPTIONS | family.engine_options
    engine = bench.engines(bench.checkpoint(family), **options)
    try:
        pipelines.in_company(yardstick, engine, modes)
        recomputes = "kv_cache" in str(modes)
        pipelines.interrupted(yardstick, engine, modes, runs_out=not recomputes)
        assert pipelines.draw_with_seed(engine.fresh(), modes[0]) == expected
    finally:
        bench.engines.close()
