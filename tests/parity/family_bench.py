"""Engines and references of single families, for tests that put an engine under stress."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.checkpoints import dream, fast_dllm_v2, llada, llada2, nemotron_labs
from tests.parity.engines import Engine, EnginePool
from tests.parity.families import (
    DREAM_MODES,
    FAMILIES,
    SPECULATION,
    STATIC,
    Family,
    FamilyYardstick,
    cached,
    edits,
)

_BY_MODULE = {family.module: family for family in FAMILIES}
FAST = _BY_MODULE[fast_dllm_v2]
# Of the seed whose drafts are right most often.
NEMOTRON = replace(_BY_MODULE[nemotron_labs], checkpoint={"seed": 2})
LLADA = _BY_MODULE[llada]
LLADA2 = _BY_MODULE[llada2]
DREAM = _BY_MODULE[dream]

SEEDED = FAST.modes[:2]
CANVASES = NEMOTRON.modes[:2]
EDITS = (edits(0.7, 0.5, 3), edits(0.5, 0.0, 3), edits(0.3, 0.1, 2))
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


def write(family: Family, folder: Path, **config: Any) -> Path:
    """A random checkpoint with changes to its config."""
    replace(family, checkpoint={**family.checkpoint, **config}).write(folder)
    if family is NEMOTRON:
        _liken(folder)
    return folder


def _liken(folder: Path) -> None:
    """Make Nemotron's tokens look so much alike to it that drafts are right now and then."""
    weights = load_file(folder / "model.safetensors")
    embeddings = weights["encoder.embed_tokens.weight"]
    embeddings.add_(embeddings[:1].clone()).mul_(0.5)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def kinds(*names: str) -> pytest.MarkDecorator:
    """Parametrize a test by ``family`` and ``modes``; all kinds if none is named."""
    of = {name: KINDS[name] for name in names or KINDS}
    return pytest.mark.parametrize(("family", "modes"), of.values(), ids=of)


class FamilyBench:
    """Random checkpoints with their engines and references."""

    def __init__(self, engines: EnginePool, folder: Path) -> None:
        self.engines, self.folder = engines, folder
        self.folders: dict[str, Path] = {}
        self.yardsticks: dict[tuple[str, int], FamilyYardstick] = {}

    def checkpoint(self, family: Family) -> Path:
        name = family.architecture
        if name not in self.folders:
            self.folders[name] = write(family, self.folder / name)
        return self.folders[name]

    def engine(self, family: Family, **options: Any) -> Engine:
        """The engine for these options, as good as new."""
        # vLLM makes the group that experts need with the first engine of a process, if at all.
        experts = self.checkpoint(LLADA2)
        if not any(model == experts for model, _ in self.engines.open):
            self.engines.close()
            self.engines(experts, **LLADA2.engine_options)
        return self.engines(self.checkpoint(family), **family.engine_options | options)

    def yardstick(self, family: Family, max_len: int = 512) -> FamilyYardstick:
        key = (family.architecture, max_len)
        if key not in self.yardsticks:
            self.yardsticks[key] = FamilyYardstick(family, self.checkpoint(family), max_len)
        return self.yardsticks[key]


@cache
def _shared(engines: EnginePool, folder: Path) -> FamilyBench:
    return FamilyBench(engines, folder)


def make_bench(engines: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> FamilyBench:
    """For the fixture ``bench`` of a module; all modules get the same one."""
    return _shared(engines, tmp_path_factory.getbasetemp() / "families")
