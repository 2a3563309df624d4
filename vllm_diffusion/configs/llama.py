"""Shims on Llama's and Ministral's configs: (i)LLaDA, Stable-DiffCoder, Nemotron-Labs-Diffusion."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import LlamaConfig, Ministral3Config

from vllm_diffusion.configs.base import DiffusionShim
from vllm_diffusion.configs.qwen import LLaDAMoeConfig

_OFF = (False, None)


class LLaDAConfig(DiffusionShim, LlamaConfig):
    """LLaDA-8B, LLaDA-1.5 and dLLM-Var (ML-GSAI/LLaDA): OLMo's fields for Llama's network."""

    model_type = "llada"
    BY_ARCHITECTURE: ClassVar = {"LLaDAMoEModelLM": LLaDAMoeConfig}
    SPELLINGS: ClassVar = {
        "d_model": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "n_kv_heads": "num_key_value_heads",
        "mlp_hidden_size": "intermediate_size",
        "activation_type": "hidden_act",
        "max_sequence_length": "max_position_embeddings",
        "weight_tying": "tie_word_embeddings",
    }
    REQUIRED: ClassVar = {
        "block_type": ("llama",),
        "layer_norm_type": ("rms",),
        "hidden_act": ("silu",),
        "rope": (True,),
        "alibi": _OFF,
        "attention_layer_norm": _OFF,
        "clip_qkv": (None,),
        "include_bias": _OFF,
        "include_qkv_bias": _OFF,
        "input_emb_norm": _OFF,
        "multi_query_attention": _OFF,
        "scale_logits": _OFF,
    }
    rms_norm_eps: float = 1e-5

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Fill in what the file leaves to be computed from other fields."""
        fields = dict(config_dict)
        # The tables are padded to ``embedding_size`` rows, and so are the logits.
        fields["vocab_size"] = fields.pop("embedding_size", None) or fields.get("vocab_size")
        if fields.get("mlp_hidden_size") is None and "d_model" in fields:
            fields["mlp_hidden_size"] = fields.get("mlp_ratio", 4) * fields["d_model"]
        return super().from_dict(fields, **kwargs)


class ILLaDAConfig(DiffusionShim, LlamaConfig):
    """iLLaDA (ML-GSAI/LLaDA): Llama with tied embeddings."""

    model_type = "illada"
    # A value would mean LayerNorm instead of RMSNorm.
    REQUIRED: ClassVar = {"layer_norm_eps": (None,)}
    tie_word_embeddings: bool = True


class StableDiffcoderConfig(DiffusionShim, LlamaConfig):
    """Stable-DiffCoder under a foreign name; the released one is transformers' "llama"."""

    model_type = "stable_diffcoder"


class NemotronLabsConfig(DiffusionShim, Ministral3Config):
    """Nemotron-Labs-Diffusion (NVIDIA): Ministral 3."""

    model_type = "nemotron_labs_diffusion"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        rope: dict[str, Any] = dict(self.rope_parameters or {})
        beta = rope.get("llama_4_scaling_beta")
        if beta is not None:
            # Queries grow with the position; vLLM reads the two numbers from here.
            self.llama_4_scaling = {
                "beta": beta,
                "original_max_position_embeddings": rope["original_max_position_embeddings"],
            }
