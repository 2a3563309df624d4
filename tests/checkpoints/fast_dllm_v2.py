"""A random Fast-dLLM v2 checkpoint of two layers, in the released format: Qwen2.5's names.

The mask token is in the tokenizer alone. ``tie_word_embeddings=True`` makes the 1.5B's
kind of checkpoint, which has no ``lm_head``; the default is the 7B's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints import weights
from tests.checkpoints.files import save

CONFIG: dict[str, Any] = {
    "architectures": ["Fast_dLLM_QwenForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration.Fast_dLLM_QwenConfig",
        "AutoModel": "modeling.Fast_dLLM_QwenForCausalLM",
        "AutoModelForCausalLM": "modeling.Fast_dLLM_QwenForCausalLM",
    },
    "model_type": "Fast_dLLM_Qwen",
    "attention_dropout": 0.0,
    "bd_size": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "layer_types": ["full_attention", "full_attention"],
    "max_position_embeddings": 1024,
    "max_window_layers": 2,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 512,
}
MASK_ID = 509
MASK_TOKEN = "|<MASK>|"


def write(folder: Path, *, seed: int = 0, tokenizer: bool = False, **config: Any) -> Path:
    """Write a checkpoint into ``folder`` and return it."""
    merged = CONFIG | config
    return save(
        folder,
        merged,
        weights.llama(merged, seed, qkv_bias=True),
        eos=merged["eos_token_id"],
        mask_token=(MASK_TOKEN, MASK_ID) if tokenizer else None,
    )
