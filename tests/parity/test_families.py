"""Every family decodes as its authors' rules say: token for token, and step for step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.parity.engines import Engine, EnginePool
from tests.parity.families import FAMILIES, VARIANTS, Family, FamilyYardstick, Mode
from vllm_diffusion.family import rows as families

MAX_TOKENS = 30


class Bench:
    """One family's engine and reference at a time."""

    def __init__(self, make: Callable[[Family], tuple[Engine, FamilyYardstick]]) -> None:
        self.make = make
        self.family: Family | None = None

    def __call__(self, family: Family) -> tuple[Engine, FamilyYardstick]:
        if self.family is not family:
            self.engine, self.yardstick = self.make(family)
            self.family = family
        return self.engine.fresh(), self.yardstick


@pytest.fixture(scope="module")
def bench(engines: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    def make(family: Family) -> tuple[Engine, FamilyYardstick]:
        folder = family.write(tmp_path_factory.mktemp(family.architecture))
        # vLLM makes the group that experts need with the first engine of a process, if at all.
        engines.close()
        engine = engines(folder, **family.engine_options)
        return engine, FamilyYardstick(family, folder)

    return Bench(make)


def lengths(block: int) -> tuple[int, ...]:
    """Prompt lengths around the borders of blocks and of a KV page."""
    return tuple(sorted({1, block - 1, block, block + 1, 2 * block, 31, 32, 33, 45}))


MODES = [
    pytest.param(family, mode, id=f"{family.architecture}-{mode}")
    for family in FAMILIES
    for mode in family.modes
] + [
    pytest.param(family, family.modes[0], id=f"{family.architecture}-{family.checkpoint}")
    for family in VARIANTS
]


@pytest.mark.parametrize(("family", "mode"), MODES)
def test_alone_and_in_a_batch(family: Family, mode: Mode, bench: Bench) -> None:
    engine, yardstick = bench(family)
    cases = [yardstick.draw(length, MAX_TOKENS, mode) for length in lengths(family.block)]
    yardstick.compare(cases[1::3], engine.run_alone(cases[1::3]))
    yardstick.compare(cases, engine.run(cases))
    yardstick.compare(cases[::-1], engine.run(cases[::-1], every=2))


@pytest.mark.parametrize(
    "family", [pytest.param(family, id=family.architecture) for family in FAMILIES]
)
def test_modes_share_a_batch(family: Family, bench: Bench) -> None:
    engine, yardstick = bench(family)
    cases = [
        yardstick.draw(9 + 7 * number, 10 + 5 * number, mode)
        for number, mode in enumerate(family.modes)
    ]
    cases.append(yardstick.draw(20, 1, family.modes[0]))
    yardstick.compare(cases, engine.run(cases))


def test_every_family_has_a_row() -> None:
    assert [family.architecture for family in FAMILIES] == list(families.FAMILIES)
