"""Engines and references of single families, for tests that put an engine under stress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import dream, fast_dllm_v2, llada, llada2, nemotron_labs
from tests.parity.engines import Engine, EnginePool
from tests.parity.families import (
    DREAM_MODES,
    FAMILIES,
    SPECULATION,
    STATIC,
    Family,
    FamilyYardstick,
    Mode,
    cached,
    edits,
)

_BY_MODULE = {family.module: family for family in FAMILIES}
FAST = _BY_MODULE[fast_dllm_v2]
NEMOTRON = _BY_MODULE[nemotron_labs]
LLADA = _BY_MODULE[llada]
LLADA2 = _BY_MODULE[llada2]
DREAM = _BY_MODULE[dream]

SEEDED = FAST.modes[:2]
CANVASES = NEMOTRON.modes[:2]
EDITS = (edits(0.7, 0.5), edits(0.5, 0.0), edits(0.3, 0.1, 2))
CACHES = (STATIC, cached("static", "prefix"), cached("static", "dual"))

KINDS = {
    "block-causal": (FAST, SEEDED),
    "edits": (LLADA2, EDITS),
    "canvas": (NEMOTRON, CANVASES),
    "speculation": (NEMOTRON, (SPECULATION,)),
    "full": (LLADA, CACHES),
    "full-shifted": (DREAM, DREAM_MODES),
}
"""Whatever differs in how an engine computes: a family each with some of its modes."""


def kinds(*names: str) -> pytest.MarkDecorator:
    """Parametrize a test by ``family`` and ``modes``; all kinds if none is named."""
    of = {name: KINDS[name] for name in names or KINDS}
    return pytest.mark.parametrize(("family", "modes"), of.values(), ids=of)


class FamilyBench:
    """Random checkpoints of one test module, with their engines and references."""

    def __init__(self, engines: EnginePool, folder: Path) -> None:
        self.engines, self.folder = engines, folder
        self.folders: dict[str, Path] = {}
        self.yardsticks: dict[tuple[str, int], FamilyYardstick] = {}
        # vLLM makes the group that experts need with the first engine of a process, if at all.
        engines.close()
        self.engine(LLADA2)

    def checkpoint(self, family: Family) -> Path:
        name = family.architecture
        if name not in self.folders:
            self.folders[name] = family.write(self.folder / name)
        return self.folders[name]

    def engine(self, family: Family, **options: Any) -> Engine:
        """The engine for these options, as good as new."""
        return self.engines(self.checkpoint(family), **family.engine_options | options)

    def yardstick(self, family: Family, max_len: int = 512) -> FamilyYardstick:
        key = (family.architecture, max_len)
        if key not in self.yardsticks:
            self.yardsticks[key] = FamilyYardstick(family, self.checkpoint(family), max_len)
        return self.yardsticks[key]


def make_bench(engines: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> FamilyBench:
    """For the fixture ``bench`` of a module."""
    return FamilyBench(engines, tmp_path_factory.mktemp("families"))
