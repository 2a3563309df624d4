"""A random iLLaDA checkpoint of two layers, in the released format: Llama's names, tied.

The config has no mask token. The released id, 5, fits into the small vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints import weights
from tests.checkpoints.files import save

CONFIG: dict[str, Any] = {
    "architectures": ["ILLaDAForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_illada.ILLaDAConfig",
        "AutoModel": "modeling_illada.ILLaDAForCausalLM",
        "AutoModelForCausalLM": "modeling_illada.ILLaDAForCausalLM",
    },
    "model_type": "illada",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.009882118,
    "intermediate_size": 256,
    "layer_norm_eps": None,
    "max_position_embeddings": 1024,
    "mlp_bias": False,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 1,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "use_cache": False,
    "vocab_size": 512,
}
MASK_ID = 5
MASK_TOKEN = "<[MASK]>"


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
