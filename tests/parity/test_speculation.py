"""Self-speculation: the autoregressive mode's tokens, in fewer forwards when drafts are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.parity.engines import Engine, EnginePool
from tests.parity.families import FAMILIES, SPECULATION, Family, FamilyYardstick, Mode
from tests.parity.references import causal_context
from tests.parity.references.choose import Answer

NEMOTRON = next(family for family in FAMILIES if SPECULATION in family.modes)
ALIKE = 0.75


def autoregressive(*arguments: Any, block: int, **keywords: Any) -> Answer:
    """The yardstick's call without the block, which one token a step has not."""
    return causal_context.autoregressive(*arguments, **keywords)


AUTOREGRESSIVE = Mode(
    fields={"policy": "self_speculation"},
    generate=autoregressive,
    counts_steps=False,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose tokens look much alike to it, so that drafts are often right."""
    folder = NEMOTRON.write(tmp_path_factory.mktemp("alike"))
    weights = load_file(folder / "model.safetensors")
    embeddings = weights["encoder.embed_tokens.weight"]
    embeddings.copy_((1 - ALIKE) * embeddings + ALIKE * embeddings[:1])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def family() -> Family:
    return replace(NEMOTRON, modes=(SPECULATION,))


@pytest.fixture
def engine(engines: EnginePool, folder: Path) -> Engine:
    return engines(folder, **NEMOTRON.engine_options)


@pytest.mark.parametrize("mode", [SPECULATION, AUTOREGRESSIVE], ids=["rounds", "autoregressive"])
def test_a_draft_is_never_seen(mode: Mode, engine: Engine, family: Family, folder: Path) -> None:
    yardstick = FamilyYardstick(family, folder)
    cases = [yardstick.draw(5 + 9 * number, 40 + number, mode) for number in range(8)]
    outcomes = engine.run(cases, every=1)
    yardstick.compare(cases, outcomes)
    tokens = sum(len(outcome.tokens) for outcome in outcomes)
    assert tokens > 1.2 * sum(outcome.steps for outcome in outcomes), "no draft was accepted"


def test_the_context_may_end_inside_a_draft(engines: EnginePool, folder: Path) -> None:
    family = replace(NEMOTRON, modes=(SPECULATION,))
    yardstick = FamilyYardstick(family, folder, max_len=64)
    engine = engines(folder, **NEMOTRON.engine_options | {"max_model_len": 64})
    cases = [yardstick.draw(20 + number, 100, SPECULATION) for number in range(8)]
    yardstick.compare(cases, engine.run(cases))
