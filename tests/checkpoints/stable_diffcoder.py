"""A random Stable-DiffCoder checkpoint of two layers, in the released format: Llama's names.

Its ``model_type`` is "llama", and its config has neither mask token nor block size. The
released id of the mask token, 5, fits into the small vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints import weights
from tests.checkpoints.files import save

CONFIG: dict[str, Any] = {
    "architectures": ["StableDiffcoderForCausalLM"],
    "auto_map": {
        "AutoModelForCausalLM": "modeling_stable_diffcoder.StableDiffcoderForCausalLM",
    },
    "model_type": "llama",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.009882118,
    "intermediate_size": 256,
    "max_position_embeddings": 1024,
    "mlp_bias": False,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 1,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": 512,
}
MASK_ID = 5
MASK_TOKEN = "<[MASK_TOKEN]>"


def write(folder: Path, *, seed: int = 0, tokenizer: bool = False, **config: Any) -> Path:
    """Write a checkpoint into ``folder`` and return it."""
    merged = CONFIG | config
    return save(
        folder,
        merged,
        weights.llama(merged, seed),
        eos=merged["eos_token_id"],
        pad=merged["pad_token_id"],
        mask_token=(MASK_TOKEN, MASK_ID) if tokenizer else None,
    )
