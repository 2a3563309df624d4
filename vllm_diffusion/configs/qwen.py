"""Shims on Qwen's configs: SDAR, DreamReasoner, CoDA, Fast-dLLM v2, Dream, RND1, LLaDA-MoE.

Defaults are those of the authors' config classes where transformers' differ.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import Qwen2Config, Qwen3Config, Qwen3MoeConfig

from vllm_diffusion.configs.base import DiffusionShim


class SDARConfig(DiffusionShim, Qwen3Config):
    """SDAR and TraDo (JetAstra/SDAR): Qwen3 and a ``block_size``."""

    model_type = "sdar"
    block_size: int = 4


class SDARMoeConfig(DiffusionShim, Qwen3MoeConfig):
    """SDAR-MoE: Qwen3-MoE and a ``block_size``."""

    model_type = "sdar_moe"
    block_size: int = 4
    head_dim: int = 128
    norm_topk_prob: bool = True


class DreamReasonerConfig(DiffusionShim, Qwen3Config):
    """DreamReasoner: ``model_type`` of Dream, network of Qwen3."""

    model_type = "Dream"


class DreamConfig(DiffusionShim, Qwen2Config):
    """Dream, Dream-Coder and DiffuCoder (DreamLM/Dream): Qwen2."""

    model_type = "Dream"
    BY_ARCHITECTURE: ClassVar = {"DreamForCausalLM": DreamReasonerConfig}
    REQUIRED: ClassVar = {"use_mrope": (False, None)}


class FastDLLMConfig(DiffusionShim, Qwen2Config):
    """Fast-dLLM v2 (NVlabs/Fast-dLLM): Qwen2; ``bd_size`` is its block length."""

    model_type = "Fast_dLLM_Qwen"
    SPELLINGS: ClassVar = {"bd_size": "block_size"}
    block_size: int = 32


class CoDAConfig(DiffusionShim, Qwen3Config):
    """CoDA (SalesforceAIResearch/CoDA): Qwen3."""

    model_type = "CoDA"

    def __post_init__(self, **kwargs: Any) -> None:
        # The authors' class has a head of its own, whatever the file says.
        self.tie_word_embeddings = False
        super().__post_init__(**kwargs)


class RND1Config(DiffusionShim, Qwen3MoeConfig):
    """RND1 (RadicalNumerics/RND1): Qwen3-30B-A3B, whose values are its defaults."""

    model_type = "rnd1"
    default_theta = 1_000_000.0
    head_dim: int = 128
    norm_topk_prob: bool = True
    num_hidden_layers: int = 48

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read the file's ``false`` as no window."""
        window = config_dict.get("sliding_window") or None
        return super().from_dict(config_dict | {"sliding_window": window}, **kwargs)


class LLaDAMoeConfig(DiffusionShim, Qwen3MoeConfig):
    """LLaDA-MoE (inclusionAI): Qwen3-MoE whose router does not renormalise.

    Its ``model_type`` is LLaDA-8B's.
    """

    model_type = "llada"
    default_theta = 50_000.0
    SPELLINGS: ClassVar = {
        "expert_intermediate_size": "moe_intermediate_size",
        "dense_intermediate_size": "intermediate_size",
    }
    REQUIRED: ClassVar = {
        # vLLM's network always has the two norms, and no expert without a gate.
        "qk_layernorm": (True,),
        "shared_expert_intermediate_size": (0,),
        "clip_qkv": (None,),
        "moe_router_enable_expert_bias": (False, None),
        "moe_router_score_function": ("softmax", None),
        "routed_scaling_factor": (1, None),
        "router_num_group": (None,),
    }
    rms_norm_eps: float = 1e-5
    shared_expert_intermediate_size: int | None = 0

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Drop a field that the released file leaves open and the authors' code ignores."""
        return super().from_dict(config_dict | {"norm_topk_prob": False}, **kwargs)

    def __post_init__(self, **kwargs: Any) -> None:
        self.shared_expert_intermediate_size = self.shared_expert_intermediate_size or 0
        frequency = kwargs.pop("moe_layer_freq", None)
        if isinstance(frequency, list):
            self.mlp_only_layers = [layer for layer, has in enumerate(frequency) if not has]
        super().__post_init__(**kwargs)
