"""A random LLaDA-MoE checkpoint of two layers, in the released format.

Qwen3-MoE's names, but OLMoE-like config fields, and ``model_type`` "llada" as LLaDA has.
The config has neither mask token nor ``rms_norm_eps``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints import weights
from tests.checkpoints.files import save

CONFIG: dict[str, Any] = {
    "architectures": ["LLaDAMoEModelLM"],
    "auto_map": {
        "AutoConfig": "configuration_lladamoe.LLaDAConfig",
        "AutoModel": "modeling_lladamoe.LLaDAMoEModelLM",
        "AutoModelForCausalLM": "modeling_lladamoe.LLaDAMoEModelLM",
    },
    "model_type": "llada",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "clip_qkv": None,
    "dense_intermediate_size": 256,
    "eos_token_id": 2,
    "expert_intermediate_size": 64,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "max_position_embeddings": 1024,
    "moe_layer_freq": [1, 1],
    "moe_router_enable_expert_bias": False,
    "moe_router_score_function": "softmax",
    "norm_topk_prob": None,
    "num_attention_heads": 4,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "pad_token_id": 2,
    "partial_rotary_factor": 1.0,
    "qk_layernorm": True,
    "rope_scaling": None,
    "rope_theta": 50000,
    "routed_scaling_factor": 1,
    "router_aux_loss_coef": 0.01,
    "router_num_group": None,
    "router_topk_group": None,
    "shared_expert_intermediate_size": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": False,
    "vocab_size": 512,
}
MASK_ID = 509
MASK_TOKEN = "<|mask|>"


def write(folder: Path, *, seed: int = 0, tokenizer: bool = False, **config: Any) -> Path:
    """Write a checkpoint into ``folder`` and return it."""
    merged = CONFIG | config
    shape = merged | {"moe_intermediate_size": merged["expert_intermediate_size"]}
    return save(
        folder,
        merged,
        weights.llama(shape, seed, qk_norm=True, feedforward=weights.experts),
        eos=merged["eos_token_id"],
        pad=merged["pad_token_id"],
        mask_token=(MASK_TOKEN, MASK_ID) if tokenizer else None,
    )
