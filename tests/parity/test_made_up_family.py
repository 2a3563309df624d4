"""A family is one row: here is one that nobody has released, all of it in this file.

It decodes as Nemotron-Labs-Diffusion does, on SDAR's network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from vllm import ModelRegistry
from vllm.model_executor.models.config import MODELS_CONFIG_MAP
from vllm.transformers_utils import config as vllm_configs

from tests.checkpoints import sdar
from tests.parity.engines import EnginePool
from tests.parity.families import SPECULATION, Family, FamilyYardstick, confidence
from tests.parity.references import causal_context
from vllm_diffusion import plugin
from vllm_diffusion.configs.qwen import SDARConfig
from vllm_diffusion.family import registry
from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.mask_groups.causal_context import CausalContext

MAX_TOKENS = 20


class MadeUpConfig(SDARConfig):
    """The shim."""

    model_type = "made_up"


MADE_UP = FamilyRecord(
    architecture="MadeUpForCausalLM",
    title="Made up",
    model="vllm_diffusion.models.qwen:SDARForCausalLM",
    model_type="made_up",
    config=f"{__name__}:MadeUpConfig",
    tensors="qwen3",
    mask_group=CausalContext,
    block_lengths=(4, 64),
    default_threshold=0.6,
    has_seed=True,
    self_speculates=True,
)
CHECKPOINT = {"architectures": [MADE_UP.architecture], "model_type": MADE_UP.model_type}
REFERENCE = Family(
    module=sdar,
    generate=causal_context.generate,
    block=8,
    modes=(
        replace(confidence(0.6), fields={}),  # the row's own default
        confidence(0.95),
        SPECULATION,
    ),
)


@pytest.fixture
def _added() -> Iterator[None]:
    registry.add(MADE_UP)
    plugin.register()
    yield
    by_architecture = (
        *(registry.FAMILIES, registry.MODEL_CLASSES, registry.MODEL_TYPES, registry.SERVED),
        *(ModelRegistry.models, MODELS_CONFIG_MAP),
    )
    for table in by_architecture:
        del table[MADE_UP.architecture]
    for table in (registry.CONFIG_SHIMS, vllm_configs._CONFIG_REGISTRY):
        del table[MADE_UP.model_type]


@pytest.mark.usefixtures("_added")
def test_it_is_served_as_its_row_says(pool: EnginePool, tmp_path: Path) -> None:
    folder = sdar.write(tmp_path / "made_up", **CHECKPOINT)
    # The reference knows SDAR's network by its released name; the weights are the same.
    yardstick = FamilyYardstick(REFERENCE, sdar.write(tmp_path / "network"))
    engine = pool(folder, **REFERENCE.engine_options)
    assert engine.scheduler.plan.record is MADE_UP
    cases = [
        yardstick.draw(length, MAX_TOKENS, mode)
        for mode in REFERENCE.modes
        for length in (1, 7, 8, 31, 33)
    ]
    yardstick.compare(cases[:1], engine.run_alone(cases[:1]))
    yardstick.compare(cases, engine.run(cases, every=2))
