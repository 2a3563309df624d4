"""A random DiffusionGemma checkpoint of three layers, in the released format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

TEXT: dict[str, Any] = {
    "model_type": "diffusion_gemma_text",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "dtype": "float32",
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "global_head_dim": 64,
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 128,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "max_position_embeddings": 1024,
    "moe_intermediate_size": 32,
    "num_attention_heads": 4,
    "num_experts": 8,
    "num_global_key_value_heads": 1,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {
        "full_attention": {
            "partial_rotary_factor": 0.25,
            "rope_theta": 1000000.0,
            "rope_type": "proportional",
        },
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
    "sliding_window": 24,
    "tie_word_embeddings": True,
    "top_k_experts": 2,
    "use_bidirectional_attention": "vision",
    "vocab_size": 512,
}
CONFIG: dict[str, Any] = {
    "architectures": ["DiffusionGemmaForBlockDiffusion"],
    "model_type": "diffusion_gemma",
    "boi_token_id": 509,
    "canvas_length": 16,
    "dtype": "float32",
    "eoi_token_id": 510,
    "image_token_id": 511,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
    "vision_config": {
        "model_type": "gemma4_vision",
        "head_dim": 16,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "num_key_value_heads": 2,
    },
}
# The released bound and temperatures; a random network is never as sure as the released 0.005.
GENERATION: dict[str, Any] = {
    "bos_token_id": 2,
    "confidence_threshold": 0.5,
    "eos_token_id": [1],
    "max_denoising_steps": 12,
    "max_new_tokens": 256,
    "pad_token_id": 0,
    "sampler_config": {"_cls_name": "EntropyBoundSamplerConfig", "entropy_bound": 0.1},
    "stability_threshold": 1,
    "t_max": 0.8,
    "t_min": 0.4,
}

DECODER = "model.decoder."
ENCODER = "model.encoder.language_model."


def random_weights(text: dict[str, Any], seed: int) -> dict[str, Tensor]:
    """Weights under the released names: the decoder's, which encoder and output head share.

    Scaled so that entropies spread over (0, log V) and canvases settle after 2 to 12 steps. Of the
    vision tower, one tensor stands for all.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden, num_experts = text["hidden_size"], text["num_experts"]

    def matrix(*shape: int, gain: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=generator) * gain / shape[-1] ** 0.5

    def near_one(size: int) -> Tensor:
        return 1 + 0.1 * torch.randn(size, generator=generator)

    def gated(prefix: str, inner: int) -> dict[str, Tensor]:
        return {
            prefix + "gate_proj.weight": matrix(inner, hidden),
            prefix + "up_proj.weight": matrix(inner, hidden),
            prefix + "down_proj.weight": matrix(hidden, inner, gain=2.0),
        }

    condition = DECODER + "self_conditioning."
    weights = {
        DECODER + "embed_tokens.weight": matrix(text["vocab_size"], hidden, gain=6.0),
        DECODER + "norm.weight": near_one(hidden),
        condition + "pre_norm.weight": near_one(hidden),
        **gated(condition, text["intermediate_size"]),
        "model.encoder.embed_vision.embedding_projection.weight": matrix(hidden, 32),
        "model.encoder.vision_tower.patch_embedder.input_proj.weight": matrix(32, 768),
    }
    for layer, layer_type in enumerate(text["layer_types"]):
        is_full = layer_type == "full_attention"
        head = text["global_head_dim" if is_full else "head_dim"]
        queries = text["num_attention_heads"] * head
        keys = text["num_global_key_value_heads" if is_full else "num_key_value_heads"] * head
        inner = text["moe_intermediate_size"]
        prefix = f"{DECODER}layers.{layer}."
        scalar = torch.tensor([0.8 + 0.1 * layer])
        weights |= {
            prefix + "self_attn.q_proj.weight": matrix(queries, hidden),
            prefix + "self_attn.k_proj.weight": matrix(keys, hidden),
            prefix + "self_attn.o_proj.weight": matrix(hidden, queries),
            prefix + "self_attn.q_norm.weight": near_one(head) * 0.5,
            prefix + "self_attn.k_norm.weight": near_one(head) * 0.5,
            **gated(prefix + "mlp.", text["intermediate_size"]),
            prefix + "router.proj.weight": matrix(num_experts, hidden),
            prefix + "router.scale": near_one(hidden) * hidden**0.5,
            prefix + "router.per_expert_scale": near_one(num_experts),
            prefix + "experts.gate_up_proj": matrix(num_experts, 2 * inner, hidden),
            prefix + "experts.down_proj": matrix(num_experts, hidden, inner),
            # Not shared by reference, so released twice.
            prefix + "layer_scalar": scalar,
            f"{ENCODER}layers.{layer}.layer_scalar": scalar.clone(),
        }
        if not is_full:
            weights[prefix + "self_attn.v_proj.weight"] = matrix(keys, hidden)
        for name in ("", "_1", "_2"):
            gain = 1.0 if name else 0.5
            weights[f"{prefix}post_feedforward_layernorm{name}.weight"] = near_one(hidden) * gain
        for name in ("input_layernorm", "pre_feedforward_layernorm", "pre_feedforward_layernorm_2"):
            weights[f"{prefix}{name}.weight"] = near_one(hidden)
        weights[prefix + "post_attention_layernorm.weight"] = near_one(hidden) * 0.5
    return weights


def write(folder: Path, *, seed: int = 0, **generation: Any) -> Path:
    """Write a checkpoint without a tokenizer into ``folder`` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | {"text_config": TEXT}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION | generation, indent=2))
    save_file(random_weights(TEXT, seed), folder / "model.safetensors", metadata={"format": "pt"})
    return folder
