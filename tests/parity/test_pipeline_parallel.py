"""Two ranks in a pipeline, each with a layer: the last one denoises, the first one embeds."""

from collections.abc import Callable

import pytest

from tests.parity.cases import RULES, Yardstick
from tests.parity.engines import EnginePool

Yardsticks = Callable[[int], Yardstick]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_ranks")
def test_a_pipeline(engines: EnginePool, yardstick: Yardsticks) -> None:
    """Greedy requests equal the reference, drawn ones what one rank draws."""
    reference = yardstick(8)
    cases = [reference.draw(6 + 5 * n, 19, 8, rule=rule) for n, rule in enumerate(RULES[:7])]
    drawn = {"temperature": 1.0, "seed": 7, "max_tokens": 19}
    single = engines(8)
    single.add("drawn", cases[0].prompt, **drawn)
    single.drain()
    expected = single.outcomes("drawn")[0].tokens

    # The ranks are processes of their own; ending them ends this process's groups as well.
    engines.close()
    engine = engines(8, pipeline_parallel_size=2)
    try:
        reference.compare(cases, engine.run(cases))
        reference.compare(cases, engine.run(cases, every=1))
        engine.add("drawn", cases[0].prompt, **drawn)
        engine.drain()
        assert engine.outcomes("drawn")[0].tokens == expected
    finally:
        engines.close()
