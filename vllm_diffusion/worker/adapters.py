"""LoRA on the rows of logits: each belongs to a token of a canvas, and has that token's adapter.

vLLM says one adapter a request for its logits, since an autoregressive request has one row.
Suffixes: N rows of logits, T tokens.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from vllm.utils.gpu_sync_debug import gpu_sync_allowed


def map_rows(model: nn.Module, rows_N: Tensor) -> None:
    """Tell the adapters of this step's logits, ``rows_N`` being their tokens' indices.

    In every step: vLLM says the adapters of tokens anew only when they have changed.
    """
    manager: Any = getattr(model, "lora_manager", None)
    if manager is None:
        return
    for punica in manager.punica_wrapper_mapping.values():
        slots_N = punica.token_lora_indices[rows_N]
        punica._sampler_indices[: len(slots_N)].copy_(slots_N)
        punica.indices_len[1] = len(slots_N)
        # Kernels for GPUs read it in an order of their own, which vLLM makes with a sync as well.
        by_adapter = getattr(punica, "prompt_mapping_meta", None)
        if by_adapter is not None:
            with gpu_sync_allowed():
                by_adapter.prepare_tensors(slots_N)
