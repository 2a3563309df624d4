"""A random Dream checkpoint of two layers, in the released format: Qwen2's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints import weights
from tests.checkpoints.files import save

CONFIG: dict[str, Any] = {
    "architectures": ["DreamModel"],
    "auto_map": {
        "AutoConfig": "configuration_dream.DreamConfig",
        "AutoModel": "modeling_dream.DreamModel",
    },
    "model_type": "Dream",
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "eos_token_id": 2,
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
    "pad_token_id": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": 512,
}
MASK_ID = 509
MASK_TOKEN = "<|mask|>"


def write(folder: Path, *, seed: int = 0, tokenizer: bool = False, **config: Any) -> Path:
    """Write a checkpoint into ``folder`` and return it."""
    merged = CONFIG | config
    return save(
        folder,
        merged,
        weights.llama(merged, seed, qkv_bias=True),
        eos=merged["eos_token_id"],
        pad=merged["pad_token_id"],
        mask_token=(MASK_TOKEN, MASK_ID) if tokenizer else None,
    )
