"""Draws depend on the seed alone, in every mask group: not on the company, nor on a preemption."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.cases import random_tokens
from tests.parity.engines import Engine
from tests.parity.families import SPECULATION, STATIC, Family, Mode, clocked
from tests.parity.family_bench import (
    CANVASES,
    DREAM,
    EDITS,
    FAST,
    LLADA,
    LLADA2,
    NEMOTRON,
    SEEDED,
    FamilyBench,
    make_bench,
)

bench = pytest.fixture(scope="module")(make_bench)

PROMPT = random_tokens(29, 0)
ORIGIN = clocked("origin", 12)

DRAWN = [
    pytest.param(FAST, SEEDED[0], 1.0, id="seeds"),
    pytest.param(LLADA2, EDITS[2], 1.0, id="edits"),
    pytest.param(NEMOTRON, CANVASES[0], 1.0, id="canvas"),
    pytest.param(NEMOTRON, SPECULATION, 1.0, id="speculation"),
    pytest.param(LLADA, STATIC, 1.0, id="full"),
    pytest.param(DREAM, ORIGIN, 1.0, id="origin"),
    pytest.param(DREAM, ORIGIN, 0.0, id="origin-greedy"),
]


def add(engine: Engine, name: str, mode: Mode, prompt: tuple[int, ...], **sampling: Any) -> None:
    extra = {f"diffusion_{key}": value for key, value in mode.fields.items()}
    engine.add(name, prompt, max_tokens=24, ignore_eos=True, extra_args=extra, **sampling)


def drawn(engine: Engine) -> list[int]:
    engine.drain()
    return engine.outcomes("drawn")[0].tokens


@pytest.mark.parametrize(("family", "mode", "temperature"), DRAWN)
def test_seeded_draws_repeat(
    family: Family, mode: Mode, temperature: float, bench: FamilyBench
) -> None:
    engine = bench.engine(family)
    said = {"seed": 1234, "temperature": temperature}
    add(engine, "drawn", mode, PROMPT, **said)
    alone = drawn(engine)

    for number in range(5):
        other = family.modes[number % len(family.modes)]
        add(engine, f"other-{number}", other, random_tokens(9 + 7 * number, 0), temperature=0.7)
        engine.step()
    add(engine, "drawn", mode, PROMPT, **said)
    assert drawn(engine) == alone

    for num_steps in (1, 4, 9):
        engine.fresh()
        add(engine, "other", mode, PROMPT, seed=1, temperature=1.0)
        add(engine, "drawn", mode, PROMPT, **said)
        for _ in range(num_steps):
            engine.step()
        assert engine.engine.reset_prefix_cache(reset_running_requests=True)
        assert drawn(engine) == alone
        assert "drawn" in engine.preempted

    add(engine, "drawn", mode, PROMPT, **said | {"seed": 4321})
    assert drawn(engine) != alone
