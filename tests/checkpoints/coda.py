"""A random CoDA checkpoint of two layers, in the released format: Qwen3's names.

The config says nothing about tied embeddings, and there is an ``lm_head``
(SalesforceAIResearch/CoDA, CoDALanguageModel/config.json and save_hf_model.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints import weights
from tests.checkpoints.files import save

CONFIG: dict[str, Any] = {
    "architectures": ["CoDALanguageModel"],
    "auto_map": {
        "AutoConfig": "model_config.CoDAConfig",
        "AutoModel": "modeling_coda.CoDALanguageModel",
    },
    "model_type": "CoDA",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_kernel": "flash_attention",
    "block_masking_probability": [0.25, 0.5, 0.5, 0.75, 0.25],
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "mask_block_sizes": [4, 8, 16, 32],
    "mask_token_id": 509,
    "max_position_embeddings": 1024,
    "max_window_layers": 2,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 2,
    "prefix_probability": 0,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sampling_eps": [0.001, 0.25, 0.5, 0.25, 0.001],
    "sliding_window": None,
    "torch_dtype": "float32",
    "truncate_probability": 0,
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 512,
}
MASK_ID = 509
MASK_TOKEN = "<|mask|>"
EOS_ID = 2


def write(folder: Path, *, seed: int = 0, tokenizer: bool = False, **config: Any) -> Path:
    """Write a checkpoint into ``folder`` and return it."""
    merged = CONFIG | config
    return save(
        folder,
        merged,
        weights.llama(merged | {"tie_word_embeddings": False}, seed, qk_norm=True),
        eos=EOS_ID,
        pad=merged["pad_token_id"],
        mask_token=(MASK_TOKEN, MASK_ID) if tokenizer else None,
    )
