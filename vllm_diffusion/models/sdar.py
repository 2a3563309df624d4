"""SDAR and TraDo: Qwen3's network with block-causal attention.

JetAstra/SDAR; the tensor names are Qwen3's own, so loading, tensor
parallelism, quantisation and LoRA are vLLM's.
"""

from __future__ import annotations

from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM

from vllm_diffusion.models.block_diffusion import BlockDiffusionModel


class SDARForCausalLM(BlockDiffusionModel, Qwen3ForCausalLM):
    """Qwen3 that denoises blocks."""
