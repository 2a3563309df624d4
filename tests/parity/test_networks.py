"""Number formats: every kind of network runs in bfloat16, and LLaDA2 routes in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import dream, llada, llada2, llada_moe, nemotron_labs
from tests.parity.cases import Case, random_tokens
from tests.parity.engines import EnginePool
from tests.parity.references import network, network_routers

BLOCK = 8
OPTIONS: dict[str, Any] = {"diffusion_config": {"canvas_length": BLOCK}}


@pytest.mark.parametrize(
    "module", [dream, llada, llada2, llada_moe, nemotron_labs], ids=lambda m: m.__name__
)
def test_bfloat16_runs(module: Any, engines: EnginePool, tmp_path: Path) -> None:
    engines.close()
    engine = engines(module.write(tmp_path, tokenizer=True), **OPTIONS, dtype="bfloat16")
    cases = [
        Case(prompt=tuple(range(6, 6 + n)), max_tokens=19, block=BLOCK, ignore_eos=True)
        for n in (1, 8, 21)
    ]
    assert [len(outcome.tokens) for outcome in engine.run(cases)] == [19] * 3


ROUTER = {
    "num_experts": 64,
    "n_group": 8,
    "topk_group": 4,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 32,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_llada2_routes_in_float32(dtype: str, engines: EnginePool, tmp_path: Path) -> None:
    """The experts of every token are those of float32 scores of its hidden state.

    With bfloat16 activations as well, where rounding the router's logits would choose
    others for some tokens.
    """
    engines.close()
    folder = llada2.write(tmp_path, tokenizer=True, **ROUTER)
    engine = engines(folder, **OPTIONS, dtype=dtype)
    model = engine.core.model_executor.driver_worker.worker.get_model()
    layer = model.model.layers[1].mlp
    weights = network.load(folder).w
    seen, routed, chosen = [], [], []
    select = layer.experts.router.select_experts

    def watched(hidden_states: torch.Tensor, router_logits: torch.Tensor, **rest: Any) -> Any:
        result = select(hidden_states=hidden_states, router_logits=router_logits, **rest)
        seen.append(hidden_states.clone())
        routed.append(router_logits.dtype)
        chosen.append(result[1].sort(-1).values)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer.experts.router, "select_experts", watched)
        prompt = random_tokens(333, 0)
        engine.run([Case(prompt=prompt, max_tokens=32, block=BLOCK, ignore_eos=True)])
    hidden = torch.cat(seen)
    assert hidden.dtype == getattr(torch, dtype)
    assert set(routed) == {torch.float32} == {layer.gate.expert_bias.dtype}
    logits = hidden.float() @ weights["model.layers.1.mlp.gate.weight"].T
    bias = weights["model.layers.1.mlp.gate.expert_bias"]
    settings = llada2.CONFIG | ROUTER

    def experts(scores: torch.Tensor) -> torch.Tensor:
        return network_routers.sigmoid(scores, bias, settings, None)[0].sort(-1).values

    got = torch.cat(chosen)
    assert torch.equal(experts(logits), got.long())
    assert not torch.equal(experts(logits.bfloat16().float()), got.long())
