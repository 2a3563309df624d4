"""The reference networks against the transformers library's own classes, under a causal mask.

LLaDA2 has no class there, but GLM-4-MoE is the same network (per-head norms, half rotary,
sigmoid scores, groups, selection bias, shared expert) with q, k and v apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from tests.parity.references import network, network_routers

LENGTH = 80  # beyond YaRN's original context


@dataclass(frozen=True)
class Case:
    """A checkpoint and the library's model type for its network."""

    module: str
    model_type: str
    written: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    """Config fields that the library spells differently, or that our file leaves out."""

    def __str__(self) -> str:
        return "-".join([self.module, *self.written])


GLM = {"n_routed_experts": 8, "n_shared_experts": 1, "use_qk_norm": True, "num_mtp_layers": 0}
LLAMA_OF_LLADA = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}
QWEN3_MOE_OF_LLADA_MOE = {
    "moe_intermediate_size": 64,
    "norm_topk_prob": False,
    "rms_norm_eps": 1e-5,
    "head_dim": 32,
}
QWEN3_MOE_OF_RND1 = {"is_causal": True, "rope_scaling": None, "sliding_window": None}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "llama_4_scaling_beta": 0.1,
    "original_max_position_embeddings": 64,
}

CASES = (
    Case("sdar", "qwen3"),
    Case("sdar_moe", "qwen3_moe"),
    Case("llada2", "glm4_moe", changed=GLM),
    Case("llada2", "glm4_moe", {"release": "2.0"}, GLM),
    Case("dream_reasoner", "qwen3"),
    Case("stable_diffcoder", "llama"),
    Case("fast_dllm_v2", "qwen2"),
    Case("fast_dllm_v2", "qwen2", {"tie_word_embeddings": True}),
    Case("nemotron_labs", "ministral3"),
    Case("nemotron_labs", "ministral3", {"rope_parameters": YARN}),
    Case("llada", "llama", changed=LLAMA_OF_LLADA),
    Case("illada", "llama"),
    Case("llada_moe", "qwen3_moe", changed=QWEN3_MOE_OF_LLADA_MOE),
    Case("dream", "qwen2"),
    Case("rnd1", "qwen3_moe", changed=QWEN3_MOE_OF_RND1),
    Case("coda", "qwen3", changed={"tie_word_embeddings": False}),
)


def _library_model(case: Case, folder: Path, ours: network.Network) -> torch.nn.Module:
    """The library's class for the same weights, under its own names."""
    folder.mkdir()
    config = ours.config | case.changed | {"model_type": case.model_type}
    for remote in ("architectures", "auto_map"):
        del config[remote]
    (folder / "config.json").write_text(json.dumps(config))
    renamed = {
        name.replace("expert_bias", "e_score_correction_bias"): tensor.contiguous()
        for name, tensor in ours.w.items()
    }
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_are_the_librarys(case: Case, tmp_path: Path) -> None:
    written = import_module(f"tests.checkpoints.{case.module}").write(
        tmp_path / "released", **case.written
    )
    ours = network.load(written)
    theirs = _library_model(case, tmp_path / "library", ours)
    tokens = torch.randint(512, (LENGTH,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.inference_mode():
        expected = theirs(torch.tensor([tokens])).logits[0]
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    torch.testing.assert_close(ours.logits(tokens, causal), expected, rtol=0, atol=1e-4)


def test_block_routing_is_what_the_report_says() -> None:
    """LLaDA2.2, said token by token: a block admits experts by their best token's score."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(71, 16, generator=generator)
    bias = torch.randn(16, generator=generator) * 0.3
    settings = {"expert_capacity": 7, "num_experts_per_tok": 4, "routed_scaling_factor": 2.5}
    blocks = torch.arange(71) // 32
    chosen, weights = network_routers.sigmoid(scores, bias, settings, blocks)
    plain, biased = scores.sigmoid(), scores.sigmoid() + bias
    for token in range(71):
        best = [max(biased[blocks == blocks[token], expert].tolist()) for expert in range(16)]
        admitted = sorted(range(16), key=lambda expert: -best[expert])[:7]
        expected = sorted(admitted, key=lambda expert: -biased[token, expert].item())[:4]
        assert chosen[token].tolist() == expected
        kept = plain[token, expected]
        torch.testing.assert_close(weights[token], 2.5 * kept / kept.sum())
