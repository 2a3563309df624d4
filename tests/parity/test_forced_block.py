"""Families with seeds under a grammar that leaves no choice for a whole block.

The walk fills such a canvas at its seed step, so the step emits. The block behind it must have its
own seed step all the same: without one its text hangs on where the request was interrupted.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from vllm.sampling_params import StructuredOutputsParams

from tests.checkpoints import fast_dllm_v2, nemotron_labs
from tests.parity.cases import random_tokens
from tests.parity.engines import Engine, EnginePool

BLOCK = 8
PROMPT = random_tokens(80, 1)
# '{"é": "' is seven tokens of bytes, and the eighth begins the value: a block and a bit.
SCHEMA = {
    "type": "object",
    "properties": {"é": {"type": "string", "maxLength": 8}},
    "required": ["é"],
}


def run(engine: Engine, *, interrupt_at: int | None, temperature: float) -> list[int]:
    """The request's tokens, its K and V taken away after so many forwards."""
    engine.fresh().add(
        "it",
        PROMPT,
        max_tokens=40,
        temperature=temperature,
        seed=873,
        structured_outputs=StructuredOutputsParams(json=SCHEMA),
    )
    while engine.engine.has_unfinished_requests():
        if engine.num_forwards == interrupt_at and not engine.preempted:
            engine.scheduler.reset_prefix_cache(reset_running_requests=True)
        engine.step()
    assert len(engine.preempted) == (interrupt_at is not None)
    return engine.outcomes("it")[0].tokens


@pytest.mark.parametrize("temperature", [0.0, 1.3])
@pytest.mark.parametrize("module", [fast_dllm_v2, nemotron_labs], ids=["fast", "nemotron"])
def test_an_interruption_changes_nothing(
    pool: EnginePool, tmp_path: Path, module: ModuleType, temperature: float
) -> None:
    folder = module.write(tmp_path, tokenizer=True)
    engine = pool(
        folder,
        skip_tokenizer_init=False,
        max_model_len=256,
        diffusion_config={"canvas_length": BLOCK},
    )
    whole = run(engine, interrupt_at=None, temperature=temperature)
    assert len(whole) > BLOCK
    for forwards in (1, 2, 3, 5):
        assert run(engine, interrupt_at=forwards, temperature=temperature) == whole, forwards
