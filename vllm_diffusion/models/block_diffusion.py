"""What turns one of vLLM's decoder classes into a block-diffusion model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.platforms import current_platform


def check_attention(model: nn.Module) -> None:
    """Refuse attention that would quietly stay causal.

    Raises:
        ValueError: a layer's backend cannot attend both ways on the paged cache.
    """
    backends: set[Any] = {
        module.attn_backend for module in model.modules() if hasattr(module, "attn_backend")
    }
    for backend in backends:
        if not backend.supports_non_causal():
            raise ValueError(
                f"the attention backend {backend.get_name()} is causal only, and diffusion models "
                "attend both ways; choose another one with --attention-backend"
            )


class BlockDiffusionModel(nn.Module):
    """Mixed in before a decoder class; the network itself is not touched.

    Non-causality is not here: it comes with the attention metadata.
    """

    config: Any

    @staticmethod
    def get_model_state_cls() -> type[Any]:
        """Called by Model Runner V2 in the worker, once the weights are loaded."""
        from vllm_diffusion.worker.model_state import BlockDiffusionState

        return BlockDiffusionState

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        if current_platform.is_cpu():
            from vllm_diffusion import cpu

            cpu.register()
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        check_attention(self)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Logits of the canvas rows; a step of prompt chunks alone has none."""
        if hidden_states.shape[0] == 0:
            # vLLM's CPU all-gather divides by the number of rows.
            return torch.empty(
                0, self.config.vocab_size, dtype=hidden_states.dtype, device=hidden_states.device
            )
        logits: Tensor | None = super().compute_logits(hidden_states)  # type: ignore[misc]
        return logits
