"""Which class, config shim and config hook serve an architecture."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vllm_diffusion.families import FAMILIES

_MODELS = "vllm_diffusion.models"

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
    "sdar": f"{_MODELS}.configs.qwen:SDARConfig",
    "sdar_moe": f"{_MODELS}.configs.qwen:SDARMoeConfig",
    "llada2_moe": f"{_MODELS}.configs.llada2:LLaDA2Config",
    "Dream": f"{_MODELS}.configs.qwen:DreamConfig",
    "Fast_dLLM_Qwen": f"{_MODELS}.configs.qwen:FastDLLMConfig",
    "nemotron_labs_diffusion": f"{_MODELS}.configs.llama:NemotronLabsConfig",
    "stable_diffcoder": f"{_MODELS}.configs.llama:StableDiffcoderConfig",
    "llada": f"{_MODELS}.configs.llama:LLaDAConfig",
    "illada": f"{_MODELS}.configs.llama:ILLaDAConfig",
    "rnd1": f"{_MODELS}.configs.qwen:RND1Config",
    "CoDA": f"{_MODELS}.configs.qwen:CoDAConfig",
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


def register() -> None:
    """Tell vLLM about every architecture; safe to call again."""
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP
    from vllm.platforms import current_platform
    from vllm.transformers_utils import config as vllm_configs
    from vllm.triton_utils import HAS_TRITON

    from vllm_diffusion.models.parser import in_front_of
    from vllm_diffusion.models.startup import DiffusionStartup

    for model_type, path in CONFIG_SHIMS.items():
        vllm_configs._CONFIG_REGISTRY[model_type] = _load(path)
    # vLLM's own function for this warns about the replacement in every process.
    parsers = vllm_configs._CONFIG_FORMAT_TO_CONFIG_PARSER
    parsers["hf"] = in_front_of(parsers["hf"])
    for architecture, path in MODEL_CLASSES.items():
        if architecture not in ModelRegistry.models:
            ModelRegistry.register_model(architecture, path)
        MODELS_CONFIG_MAP[architecture] = DiffusionStartup
    if current_platform.is_cpu() and not HAS_TRITON:
        for architecture, path in WITHOUT_TRITON.items():
            ModelRegistry.register_model(architecture, path)
