"""The shim of LLaDA2.x, for vLLM's Bailing network."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PreTrainedConfig

from vllm_diffusion.configs.base import DiffusionShim


class LLaDA2Config(DiffusionShim, PreTrainedConfig):
    """LLaDA2.0 and 2.1 (inclusionAI/LLaDA2.X); defaults of the authors' class."""

    model_type = "llada2_moe"
    default_theta = 600_000.0
    REQUIRED: ClassVar = {
        "hidden_act": ("silu",),
        # LLaDA2.2: a block's tokens share the few experts that they may choose from,
        # and tokens are inserted and deleted; neither is implemented.
        "expert_capacity": (None,),
    }

    vocab_size: int = 157184
    hidden_size: int = 2048
    intermediate_size: int = 5120
    num_hidden_layers: int = 20
    num_attention_heads: int = 16
    num_key_value_heads: int = 4
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    rope_parameters: dict[str, Any] | None = None
    partial_rotary_factor: float = 0.5
    # Absent from the released files, and False where vLLM finds nothing.
    use_qk_norm: bool = True
    use_rmsnorm: bool = True
    use_bias: bool = False
    use_qkv_bias: bool = False
    norm_head: bool = False
    embedding_dropout: float = 0.0
    first_k_dense_replace: int = 1
    moe_intermediate_size: int = 512
    num_experts: int = 256
    num_experts_per_tok: int = 8
    num_shared_experts: int = 1
    n_group: int = 8
    topk_group: int = 4
    score_function: str = "sigmoid"
    router_dtype: str = "fp32"
    moe_router_enable_expert_bias: bool = True
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 2.5
    expert_capacity: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        super().__post_init__(**kwargs)
        # vLLM prefers this field to the factor; the authors' code ignores it.
        self.rotary_dim = int(self.head_dim * self.partial_rotary_factor)
