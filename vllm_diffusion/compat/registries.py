"""vLLM's registries: architectures, config shims, the start-up hook, the config parser."""

from __future__ import annotations


def register() -> None:
    """Tell vLLM about every architecture; safe to call again."""
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP
    from vllm.platforms import current_platform
    from vllm.transformers_utils import config as vllm_configs
    from vllm.triton_utils import HAS_TRITON

    from vllm_diffusion.configs.parser import in_front_of
    from vllm_diffusion.family.registry import (
        CONFIG_SHIMS,
        MODEL_CLASSES,
        WITHOUT_TRITON,
        config_shim,
    )
    from vllm_diffusion.startup.checkpoint_hook import DiffusionStartup

    for model_type in CONFIG_SHIMS:
        vllm_configs._CONFIG_REGISTRY[model_type] = config_shim(model_type)
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
