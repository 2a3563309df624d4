"""The families that are Llama's and Ministral's networks, some under other tensor names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.mistral import MistralForCausalLM
from vllm.model_executor.models.utils import WeightsMapper

from vllm_diffusion.models.block_diffusion import BlockDiffusionModel

_LAYER = {
    "attn_norm": "input_layernorm",
    "ff_norm": "post_attention_layernorm",
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
}


class StableDiffcoderForCausalLM(BlockDiffusionModel, LlamaForCausalLM):
    """Stable-DiffCoder (arXiv 2601.15892): Llama."""


class ILLaDAForCausalLM(BlockDiffusionModel, LlamaForCausalLM):
    """iLLaDA (arXiv 2606.25331): Llama with tied embeddings."""


class LLaDAForCausalLM(BlockDiffusionModel, LlamaForCausalLM):
    """LLaDA-8B, LLaDA-1.5 and dLLM-Var (ML-GSAI/LLaDA): Llama under OLMo's names."""

    # Anchored: the head and each layer's last matrix are both called ff_out.
    renames = WeightsMapper(
        orig_to_new_regex={
            re.compile(r"^model\.transformer\.wte\b"): "model.embed_tokens",
            re.compile(r"^model\.transformer\.ln_f\b"): "model.norm",
            re.compile(r"^model\.transformer\.ff_out\b"): "lm_head",
            **{
                re.compile(rf"^model\.transformer\.blocks\.(\d+)\.{theirs}\b"): (
                    rf"model.layers.\1.{ours}"
                )
                for theirs, ours in _LAYER.items()
            },
        }
    )
    # For LoRA adapters and lists of unquantised layers, which use the released names too.
    hf_to_vllm_mapper = renames | LlamaForCausalLM.hf_to_vllm_mapper

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        loaded: set[str] = super().load_weights(self.renames.apply(weights))
        return loaded


class NemotronLabsDiffusionModel(BlockDiffusionModel, MistralForCausalLM):
    """Nemotron-Labs-Diffusion (NVIDIA): Ministral 3 under names of its own."""

    renames = WeightsMapper(orig_to_new_prefix={"encoder.": "model.", "diffusion_head": "lm_head"})
    hf_to_vllm_mapper = renames | MistralForCausalLM.hf_to_vllm_mapper

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        loaded: set[str] = super().load_weights(self.renames.apply(weights))
        return loaded
