"""Config shims: released ``config.json`` files, read without remote code.

A checkpoint is a diffusion model to vLLM iff its config has ``canvas_length``.
"""

from typing import Any

from transformers import Qwen3Config


class SDARConfig(Qwen3Config):
    """SDAR and TraDo: Qwen3 and a ``block_size`` (4 where the file says nothing)."""

    model_type = "sdar"

    def __init__(
        self,
        block_size: int = 4,
        mask_token_id: int | None = None,
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        # is_causal=False would make vLLM build encoder attention without a KV
        # cache; here non-causality comes from the attention metadata.
        kwargs.pop("is_causal", None)
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)
        self.block_size = block_size
        self.mask_token_id = mask_token_id
        self.canvas_length = block_size
