"""The families that are Qwen's networks with another attention mask.

The tensor names are Qwen's own, so loading, tensor parallelism, quantisation
and LoRA are vLLM's.
"""

from __future__ import annotations

from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM
from vllm.model_executor.models.qwen3_moe import Qwen3MoeForCausalLM

from vllm_diffusion.models.block_diffusion import BlockDiffusionModel


class SDARForCausalLM(BlockDiffusionModel, Qwen3ForCausalLM):
    """SDAR and TraDo (JetAstra/SDAR): Qwen3."""


class SDARMoeForCausalLM(BlockDiffusionModel, Qwen3MoeForCausalLM):
    """SDAR-MoE (JetAstra/SDAR): Qwen3-MoE."""


class DreamForCausalLM(BlockDiffusionModel, Qwen3ForCausalLM):
    """DreamReasoner (arXiv 2606.19257): Qwen3."""


class FastDLLMForCausalLM(BlockDiffusionModel, Qwen2ForCausalLM):
    """Fast-dLLM v2 (NVlabs/Fast-dLLM): Qwen2."""


class DreamModel(BlockDiffusionModel, Qwen2ForCausalLM):
    """Dream, Dream-Coder and DiffuCoder (DreamLM/Dream): Qwen2."""


class CoDALanguageModel(BlockDiffusionModel, Qwen3ForCausalLM):
    """CoDA (SalesforceAIResearch/CoDA): Qwen3."""


class RND1LM(BlockDiffusionModel, Qwen3MoeForCausalLM):
    """RND1 (RadicalNumerics/RND1): Qwen3-MoE."""


class LLaDAMoeForCausalLM(BlockDiffusionModel, Qwen3MoeForCausalLM):
    """LLaDA-MoE (arXiv 2509.24389): Qwen3-MoE without renormalised router weights."""
