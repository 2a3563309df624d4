"""A random LLaDA2 checkpoint of two layers (one dense, one of experts), in the released format.

The releases differ in the router's bias (bfloat16 in 2.0, float32 since 2.1) and in two
config fields of 2.2. None of them has ``use_qk_norm`` or the mask token in its config.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from tests.checkpoints import weights
from tests.checkpoints.files import save
from tests.checkpoints.weights import Config, Draw, Weights

CONFIG: dict[str, Any] = {
    "architectures": ["LLaDA2MoeModelLM"],
    "auto_map": {
        "AutoConfig": "configuration_llada2_moe.LLaDA2MoeConfig",
        "AutoModel": "modeling_llada2_moe.LLaDA2MoeModel",
        "AutoModelForCausalLM": "modeling_llada2_moe.LLaDA2MoeModelLM",
    },
    "model_type": "llada2_moe",
    "attention_dropout": 0.0,
    "embedding_dropout": 0.0,
    "first_k_dense_replace": 1,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "max_position_embeddings": 1024,
    "max_window_layers": 28,
    "moe_intermediate_size": 64,
    "moe_router_enable_expert_bias": True,
    "n_group": 2,
    "norm_head": False,
    "norm_softmax": False,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_shared_experts": 1,
    "output_dropout": 0.0,
    "output_router_logits": False,
    "pad_token_id": 2,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 600000,
    "rotary_dim": 16,
    "routed_scaling_factor": 2.5,
    "router_dtype": "fp32",
    "score_function": "sigmoid",
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "torch_dtype": "float32",
    "use_bias": False,
    "use_cache": False,
    "use_qkv_bias": False,
    "use_rmsnorm": True,
    "use_sliding_window": False,
    "using_split_qkv_in_self_attention": False,
    "vocab_size": 512,
}
MASK_ID = 509
MASK_TOKEN = "<|mask|>"
EOS_ID = 2

Release = Literal["2.0", "2.1", "2.2"]
# 2.2 routes whole blocks: 4 of 8 experts are admitted a block (48 of 256 in the release).
ADDED_IN_2_2 = {"block_size": 32, "expert_capacity": 4}

RENAMED = {
    "model.embed_tokens.": "model.word_embeddings.",
    ".self_attn.o_proj.": ".attention.dense.",
    ".self_attn.q_norm.": ".attention.query_layernorm.",
    ".self_attn.k_norm.": ".attention.key_layernorm.",
    ".self_attn.": ".attention.",
}


def _feedforward(draw: Draw, config: Config, layer: int) -> Weights:
    if layer < config["first_k_dense_replace"]:
        return weights.dense(draw, config, layer)
    # As wide as the spread of the sigmoid scores, so that it decides many choices.
    bias = draw.normal(config["num_experts"], spread=0.3)
    routed = weights.experts(draw, config, layer)
    return routed | {"gate.expert_bias": bias} | weights.shared_expert(draw, config)


def random_weights(config: Config, seed: int, release: Release) -> Weights:
    """Weights under LLaDA2's names; ``query_key_value`` has rows [all Q | all K | all V]."""
    ours = weights.llama(config, seed, qk_norm=True, feedforward=_feedforward)
    named = weights.renamed(ours, RENAMED)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}.attention."
        parts = [named.pop(f"{prefix}{part}_proj.weight") for part in "qkv"]
        named[f"{prefix}query_key_value.weight"] = torch.cat(parts)
    if release == "2.0":
        named |= {
            name: tensor.bfloat16() for name, tensor in named.items() if "expert_bias" in name
        }
    return named


def write(
    folder: Path,
    *,
    seed: int = 0,
    tokenizer: bool = False,
    release: Release = "2.1",
    **config: Any,
) -> Path:
    """Write a checkpoint into ``folder`` and return it."""
    merged = CONFIG | (ADDED_IN_2_2 if release == "2.2" else {}) | config
    return save(
        folder,
        merged,
        random_weights(merged, seed, release),
        eos=EOS_ID,
        pad=merged["pad_token_id"],
        mask_token=(MASK_TOKEN, MASK_ID) if tokenizer else None,
    )
