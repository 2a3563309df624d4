"""Which class and config shim serve an architecture."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vllm_diffusion.family.rows import FAMILIES

_MODELS = "vllm_diffusion.models"
_CONFIGS = "vllm_diffusion.configs"

MODEL_CLASSES: dict[str, str] = {
    "SDARForCausalLM": f"{_MODELS}.qwen:SDARForCausalLM",
    "SDARMoeForCausalLM": f"{_MODELS}.qwen:SDARMoeForCausalLM",
    "LLaDA2MoeModelLM": f"{_MODELS}.bailing:LLaDA2ForCausalLM",
    "DreamForCausalLM": f"{_MODELS}.qwen:DreamForCausalLM",
    "StableDiffcoderForCausalLM": f"{_MODELS}.llama:StableDiffcoderForCausalLM",
    "Fast_dLLM_QwenForCausalLM": f"{_MODELS}.qwen:FastDLLMForCausalLM",
    "NemotronLabsDiffusionModel": f"{_MODELS}.llama:NemotronLabsDiffusionModel",
    "LLaDAModelLM": f"{_MODELS}.llama:LLaDAForCausalLM",
    "ILLaDAForCausalLM": f"{_MODELS}.llama:ILLaDAForCausalLM",
    "LLaDAMoEModelLM": f"{_MODELS}.qwen:LLaDAMoeForCausalLM",
    "DreamModel": f"{_MODELS}.qwen:DreamModel",
    "RND1LM": f"{_MODELS}.qwen:RND1LM",
    "CoDALanguageModel": f"{_MODELS}.qwen:CoDALanguageModel",
}
"""By ``architectures[0]``; imported when a checkpoint asks for it."""

WITHOUT_TRITON: dict[str, str] = {
    "DiffusionGemmaForBlockDiffusion": f"{_MODELS}.diffusion_gemma:DiffusionGemmaForBlockDiffusion",
}
"""vLLM decodes these itself, on Triton: here only where there is none, and not in FAMILIES."""

SERVED: dict[str, str] = {
    **{record.architecture: record.title for record in FAMILIES.values()},
    "DiffusionGemmaForBlockDiffusion": "DiffusionGemma",
}
"""The name for people of every architecture that is served, by ``architectures[0]``."""

CONFIG_SHIMS: dict[str, str] = {
    "sdar": f"{_CONFIGS}.qwen:SDARConfig",
    "sdar_moe": f"{_CONFIGS}.qwen:SDARMoeConfig",
    "llada2_moe": f"{_CONFIGS}.llada2:LLaDA2Config",
    "Dream": f"{_CONFIGS}.qwen:DreamConfig",
    "Fast_dLLM_Qwen": f"{_CONFIGS}.qwen:FastDLLMConfig",
    "nemotron_labs_diffusion": f"{_CONFIGS}.llama:NemotronLabsConfig",
    "stable_diffcoder": f"{_CONFIGS}.llama:StableDiffcoderConfig",
    "llada": f"{_CONFIGS}.llama:LLaDAConfig",
    "illada": f"{_CONFIGS}.llama:ILLaDAConfig",
    "rnd1": f"{_CONFIGS}.qwen:RND1Config",
    "CoDA": f"{_CONFIGS}.qwen:CoDAConfig",
}
"""By ``model_type``. Types that transformers knows are not here: their classes stay as they are."""

MODEL_TYPES: dict[str, str] = {
    "SDARForCausalLM": "sdar",
    "SDARMoeForCausalLM": "sdar_moe",
    "LLaDA2MoeModelLM": "llada2_moe",
    "DreamForCausalLM": "Dream",
    # Released as "llama"; an override needs a name that is not transformers' own.
    "StableDiffcoderForCausalLM": "stable_diffcoder",
    "Fast_dLLM_QwenForCausalLM": "Fast_dLLM_Qwen",
    "NemotronLabsDiffusionModel": "nemotron_labs_diffusion",
    "LLaDAModelLM": "llada",
    "ILLaDAForCausalLM": "illada",
    "LLaDAMoEModelLM": "llada",
    "DreamModel": "Dream",
    "RND1LM": "rnd1",
    "CoDALanguageModel": "CoDA",
}
"""By architecture: which shim reads a config that only ``--hf-overrides`` calls by that name."""


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def config_shim(model_type: str | None) -> Any:
    """The class of a ``model_type`` of ours, or None."""
    path = CONFIG_SHIMS.get(model_type or "")
    return None if path is None else _load(path)
