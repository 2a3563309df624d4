"""A random LLaDA checkpoint of two layers, in the released format: OLMo's config and names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints import weights
from tests.checkpoints.files import save
from tests.checkpoints.weights import Config, Weights

CONFIG: dict[str, Any] = {
    "architectures": ["LLaDAModelLM"],
    "auto_map": {
        "AutoConfig": "configuration_llada.LLaDAConfig",
        "AutoModel": "modeling_llada.LLaDAModelLM",
        "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM",
    },
    "model_type": "llada",
    "activation_type": "silu",
    "alibi": False,
    "alibi_bias_max": 8.0,
    "attention_dropout": 0.0,
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": True,
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": 128,
    "embedding_dropout": 0.0,
    "embedding_size": 512,
    "eos_token_id": 2,
    "flash_attention": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "init_cutoff_factor": None,
    "init_device": "meta",
    "init_fn": "mitchell",
    "init_std": 0.02,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mask_token_id": 509,
    "max_sequence_length": 1024,
    "mlp_hidden_size": 256,
    "mlp_ratio": 4,
    "multi_query_attention": None,
    "n_heads": 4,
    "n_kv_heads": 4,
    "n_layers": 2,
    "pad_token_id": 2,
    "precision": "amp_bf16",
    "residual_dropout": 0.0,
    "rms_norm_eps": 1e-05,
    "rope": True,
    "rope_full_precision": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "torch_dtype": "float32",
    "use_cache": False,
    "vocab_size": 512,
    "weight_tying": False,
}
MASK_ID = 509
MASK_TOKEN = "<|mdm_mask|>"

# The layer's down projection and the head are both called ``ff_out``, on different levels.
RENAMED = {
    "model.embed_tokens.": "model.transformer.wte.",
    "model.layers.": "model.transformer.blocks.",
    "model.norm.": "model.transformer.ln_f.",
    "lm_head.": "model.transformer.ff_out.",
    "input_layernorm.": "attn_norm.",
    "post_attention_layernorm.": "ff_norm.",
    "self_attn.o_proj.": "attn_out.",
    "self_attn.": "",
    "mlp.gate_proj.": "ff_proj.",
    "mlp.up_proj.": "up_proj.",
    "mlp.down_proj.": "ff_out.",
}


def random_weights(config: Config, seed: int) -> Weights:
    """Weights under LLaDA's names."""
    shape = {
        "hidden_size": config["d_model"],
        "intermediate_size": config["mlp_hidden_size"],
        "num_attention_heads": config["n_heads"],
        "num_hidden_layers": config["n_layers"],
        "num_key_value_heads": config["n_kv_heads"],
        "tie_word_embeddings": config["weight_tying"],
        "vocab_size": config["embedding_size"],
    }
    return weights.renamed(weights.llama(shape, seed), RENAMED)


def write(folder: Path, *, seed: int = 0, tokenizer: bool = False, **config: Any) -> Path:
    """Write a checkpoint into ``folder`` and return it."""
    merged = CONFIG | config
    return save(
        folder,
        merged,
        random_weights(merged, seed),
        eos=merged["eos_token_id"],
        pad=merged["pad_token_id"],
        mask_token=(MASK_TOKEN, MASK_ID) if tokenizer else None,
    )
