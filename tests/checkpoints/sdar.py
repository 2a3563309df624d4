"""A random SDAR checkpoint of two layers, in the released format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints import weights
from tests.checkpoints.files import save

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
MASK_ID = 509
MASK_TOKEN = "<|MASK|>"


def write(
    folder: Path, *, block_size: int = 4, seed: int = 0, tokenizer: bool = False, **config: Any
) -> Path:
    """Write a checkpoint into ``folder`` and return it."""
    merged = CONFIG | {"block_size": block_size} | config
    return save(
        folder,
        merged,
        weights.llama(merged, seed, qk_norm=True),
        eos=merged["eos_token_id"],
        mask_token=(MASK_TOKEN, MASK_ID) if tokenizer else None,
    )
