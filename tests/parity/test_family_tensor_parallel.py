"""Two ranks for a family of each mask group: greedy text, edits, drafts, draws."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.cases import random_tokens
from tests.parity.families import Family, Mode
from tests.parity.family_bench import FamilyBench, kinds, make_bench

bench = pytest.fixture(scope="module")(make_bench)

DRAWN: dict[str, Any] = {"temperature": 1.0, "seed": 7, "max_tokens": 8}


@pytest.mark.slow
@pytest.mark.usefixtures("forked_ranks")
@kinds("edits", "speculation", "full")
def test_two_ranks(family: Family, modes: tuple[Mode, ...], bench: FamilyBench) -> None:
    yardstick = bench.yardstick(family)
    cases = [yardstick.draw(8 + 7 * n, 10, modes[n % len(modes)]) for n in range(4)]
    extra = {f"diffusion_{key}": value for key, value in modes[0].fields.items()}
    single = bench.engine(family)
    single.add("drawn", random_tokens(20, 0), **DRAWN, extra_args=extra)
    single.drain()
    expected = single.outcomes("drawn")[0].tokens

    # The ranks are processes of their own; ending them ends this process's groups as well.
    bench.engines.close()
    folder = bench.checkpoint(family)
    engine = bench.engines(folder, tensor_parallel_size=2, **family.engine_options)
    try:
        yardstick.compare(cases, engine.run(cases, every=1))
        engine.add("drawn", random_tokens(20, 0), **DRAWN, extra_args=extra)
        engine.drain()
        assert engine.outcomes("drawn")[0].tokens == expected
    finally:
        bench.engines.close()
