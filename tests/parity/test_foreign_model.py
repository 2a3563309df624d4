"""A model of somebody else's that looks like a diffusion model is served as if we were not there.

Its network is that of the bundled autoregressive model, so its tokens are known.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import foreign
from tests.parity.cases import random_tokens
from tests.parity.engines import EnginePool
from tests.parity.reference import Model
from tests.parity.test_autoregressive import continue_greedily

pytestmark = pytest.mark.skipif(
    not (foreign.TINY_AR / "model.safetensors").exists(), reason="the bundled model is missing"
)


@pytest.mark.parametrize("by", ["the Transformers backend", "another plugin"])
def test_it_generates_its_own_tokens(
    by: str, engines: EnginePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm import ModelRegistry

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(ModelRegistry, "models", dict(ModelRegistry.models))
    if by == "another plugin":
        from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM

        ModelRegistry.register_model(foreign.ARCHITECTURE, Qwen3ForCausalLM)
    engine = engines(foreign.write(tmp_path / "acme"), trust_remote_code=True)
    model = Model(foreign.TINY_AR)
    prompts = [random_tokens(length, 0) for length in (1, 40, 100)]
    for prompt in prompts:
        engine.add(str(len(prompt)), prompt, temperature=0.0, max_tokens=20, ignore_eos=True)
    engine.drain()
    for prompt in prompts:
        output = engine.finished[str(len(prompt))].outputs[0]
        assert list(output.token_ids) == continue_greedily(model, prompt, 20)
        assert output.spec_decode_metrics is None
