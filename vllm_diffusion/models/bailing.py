"""LLaDA2.x (inclusionAI/LLaDA2.X): Bailing's network with a router in float32."""

from __future__ import annotations

from torch import Tensor
from vllm.config import VllmConfig
from vllm.model_executor.models.bailing_moe import BailingMoE, BailingMoeV2ForCausalLM

from vllm_diffusion.models.block_diffusion import BlockDiffusionModel


class Float32RouterMoE(BailingMoE):
    """vLLM's layer, but for its rounding of the router's logits to the activations' type.

    The choice of experts is sensitive: with 256 of them in 8 groups, bfloat16 logits
    change the set that is chosen for about 3 % of the tokens in each layer.
    """

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Hidden states (N, D) to hidden states (N, D)."""
        router_logits_NE, _ = self.gate(hidden_states)
        output: Tensor = self.experts(hidden_states=hidden_states, router_logits=router_logits_NE)
        return output


class LLaDA2ForCausalLM(BlockDiffusionModel, BailingMoeV2ForCausalLM):
    """Bailing V2; its gate and the bias of its experts are float32 already."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        for module in self.modules():
            if type(module) is BailingMoE:
                # The parent names the class of its layers, so it is changed afterwards;
                # the two differ in forward() alone.
                module.__class__ = Float32RouterMoE
