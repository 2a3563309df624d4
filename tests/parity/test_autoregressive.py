"""An ordinary model in the same process, between diffusion models: served as ever.

The reference with blocks of one token is a causal network.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parity.cases import Yardstick, random_tokens
from tests.parity.engines import EnginePool
from tests.parity.reference import Model

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "models" / "tiny-ar"

pytestmark = pytest.mark.skipif(
    not (FOLDER / "model.safetensors").exists(), reason="examples/models/tiny-ar is missing"
)


@torch.inference_mode()
def continue_greedily(model: Model, prompt: tuple[int, ...], num_tokens: int) -> list[int]:
    known = list(prompt)
    for _ in range(num_tokens):
        known.append(int(model.logits(known, block=1, start=len(known) - 1).argmax()))
    return known[len(prompt) :]


def test_autoregressive_model(engines: EnginePool, yardstick: Any) -> None:
    diffusion: Yardstick = yardstick(8)
    cases = [diffusion.draw(20 + number, 20, 8) for number in range(4)]
    diffusion.compare(cases, engines(8).run(cases))

    model, engine = Model(FOLDER), engines(FOLDER)
    prompts = [random_tokens(length, 0) for length in (1, 7, 40, 100)]
    for prompt in prompts:
        engine.add(str(len(prompt)), prompt, temperature=0.0, max_tokens=30, ignore_eos=True)
    engine.drain()
    for prompt in prompts:
        output = engine.finished[str(len(prompt))].outputs[0]
        assert list(output.token_ids) == continue_greedily(model, prompt, 30)
        assert output.spec_decode_metrics is None

    diffusion.compare(cases, engines(8).run(cases))
