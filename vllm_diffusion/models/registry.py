"""Which class, config shim and config hook serve an architecture."""

from __future__ import annotations

from vllm_diffusion.family import FAMILIES

MODEL_CLASSES: dict[str, str] = {
    "SDARForCausalLM": "vllm_diffusion.models.sdar:SDARForCausalLM",
}
CONFIG_SHIMS: dict[str, str] = {"sdar": "SDARConfig"}


def register() -> None:
    """Tell vLLM about every architecture; safe to call again."""
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    from vllm_diffusion.models import configs
    from vllm_diffusion.models.serving import BlockDiffusionServing

    assert MODEL_CLASSES.keys() == FAMILIES.keys()
    for model_type, name in CONFIG_SHIMS.items():
        _CONFIG_REGISTRY[model_type] = getattr(configs, name)
    for architecture, path in MODEL_CLASSES.items():
        if architecture not in ModelRegistry.models:
            ModelRegistry.register_model(architecture, path)
        MODELS_CONFIG_MAP[architecture] = BlockDiffusionServing
