"""A random Nemotron-Labs-Diffusion checkpoint of two layers, in the released format.

Ministral-3's network under the names ``encoder.*`` and ``diffusion_head``. The heads are
narrower than hidden / heads, and YaRN's original context is short, so that the slow
frequencies are stretched and queries are scaled from token 64 on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints import weights
from tests.checkpoints.files import save

CONFIG: dict[str, Any] = {
    "architectures": ["NemotronLabsDiffusionModel"],
    "auto_map": {
        "AutoConfig": "configuration_nemotron_labs_diffusion.NemotronLabsDiffusionConfig",
        "AutoModel": "modeling_nemotron_labs_diffusion.NemotronLabsDiffusionModel",
    },
    "model_type": "nemotron_labs_diffusion",
    "ar_loss_weight": 1.0,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_implementation": "sdpa",
    "block_size": 32,
    "bos_token_id": 1,
    "dlm_loss_weight": None,
    "dlm_paradigm": "bidirectional",
    "dp_varying_mask_ratio": False,
    "eos_token_id": 11,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "mask_token_id": 100,
    "max_position_embeddings": 1024,
    "mlp_bias": False,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 16.0,
        "llama_4_scaling_beta": 0.1,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 64,
        "rope_theta": 1000000.0,
        "rope_type": "yarn",
    },
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": False,
    "vocab_size": 512,
}
MASK_ID = 100
MASK_TOKEN = "<SPECIAL_100>"

RENAMED = {"model.": "encoder.", "lm_head.": "diffusion_head."}


def write(folder: Path, *, seed: int = 0, tokenizer: bool = False, **config: Any) -> Path:
    """Write a checkpoint into ``folder`` and return it."""
    merged = CONFIG | config
    return save(
        folder,
        merged,
        weights.renamed(weights.llama(merged, seed), RENAMED),
        eos=merged["eos_token_id"],
        mask_token=(MASK_TOKEN, MASK_ID) if tokenizer else None,
    )
