"""A random SDAR checkpoint of two layers, in the released format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

CONFIG: dict[str, Any] = {
    "architectures": ["SDARForCausalLM"],
    "auto_map": {"AutoModelForCausalLM": "modeling_sdar.SDARForCausalLM"},
    "model_type": "sdar",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "block_size": 4,
    "bos_token_id": 1,
    "debug": False,
    "eos_token_id": 2,
    "ep_size": 1,
    "fuse_cross_entropy": True,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "mask_token_id": 509,
    "max_position_embeddings": 1024,
    "max_window_layers": 2,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 512,
}


def random_weights(config: dict[str, Any], seed: int) -> dict[str, Tensor]:
    """Weights under Qwen3's names, scaled so that confidences spread over (0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config["head_dim"]
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head

    def matrix(rows: int, columns: int, gain: float = 1.0) -> Tensor:
        return torch.randn(rows, columns, generator=generator) * gain / columns**0.5

    def norm(size: int) -> Tensor:
        return 1 + 0.1 * torch.randn(size, generator=generator)

    weights = {
        "model.embed_tokens.weight": torch.randn(config["vocab_size"], hidden, generator=generator),
        "model.norm.weight": norm(hidden),
        "lm_head.weight": matrix(config["vocab_size"], hidden, gain=4.0),
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        weights |= {
            prefix + "input_layernorm.weight": norm(hidden),
            prefix + "post_attention_layernorm.weight": norm(hidden),
            prefix + "self_attn.q_proj.weight": matrix(queries, hidden),
            prefix + "self_attn.k_proj.weight": matrix(keys, hidden),
            prefix + "self_attn.v_proj.weight": matrix(keys, hidden),
            prefix + "self_attn.o_proj.weight": matrix(hidden, queries, gain=2.0),
            prefix + "self_attn.q_norm.weight": norm(head) * 2,
            prefix + "self_attn.k_norm.weight": norm(head) * 2,
            prefix + "mlp.gate_proj.weight": matrix(inner, hidden),
            prefix + "mlp.up_proj.weight": matrix(inner, hidden),
            prefix + "mlp.down_proj.weight": matrix(hidden, inner, gain=2.0),
        }
    return weights


def write(folder: Path, *, block_size: int = 4, seed: int = 0, **config: Any) -> Path:
    """Write a checkpoint without a tokenizer into ``folder`` and return it."""
    merged = CONFIG | {"block_size": block_size} | config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(merged, indent=2))
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [merged["eos_token_id"]], "pad_token_id": 0})
    )
    save_file(random_weights(merged, seed), folder / "model.safetensors", metadata={"format": "pt"})
    return folder
