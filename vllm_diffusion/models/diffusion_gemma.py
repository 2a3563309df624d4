"""DiffusionGemma on a CPU without Triton: vLLM's own class, for text.

Network, model state, sampler and scheduler are vLLM's. Left out is what looks at images: it needs
torchvision, which such a host need not have. Registered only where vLLM refuses the architecture
for want of Triton; everywhere else vLLM's class serves it, and this module is never imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.models import gemma4
from vllm.config import VllmConfig
from vllm.model_executor.models.utils import WeightsMapper

from vllm_diffusion import cpu


@contextmanager
def _no_image_processor() -> Iterator[None]:
    """Let ``Gemma4Processor`` be imported without torchvision.

    vLLM's module of Gemma 4 names it at its head, and uses it for images alone.
    """
    names = vars(gemma4)
    names["Gemma4Processor"] = type("Gemma4Processor", (), {})
    try:
        yield
    finally:
        del names["Gemma4Processor"]


with _no_image_processor():
    from vllm.model_executor.models.diffusion_gemma import (
        DiffusionGemmaForConditionalGeneration as Upstream,
    )


class DiffusionGemmaForBlockDiffusion(Upstream):
    """vLLM's class without the vision tower; vLLM refuses requests with images for it."""

    supports_multimodal = False
    hf_to_vllm_mapper = Upstream.hf_to_vllm_mapper | WeightsMapper(
        orig_to_new_prefix={
            "model.encoder.vision_tower.": None,
            "model.encoder.embed_vision.": None,
        }
    )

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        cpu.register()
        vllm_config.model_config.hf_config.vision_config = None
        super().__init__(vllm_config=vllm_config, prefix=prefix)
