"""The sampling features, in the order in which a step runs them. A new one is a file and a row.

``base`` says what a feature is, ``logits_ops`` runs them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_diffusion.denoise.sample import Cut
from vllm_diffusion.sampling.allowed_ids import AllowedIds
from vllm_diffusion.sampling.bad_words import BadWordsOp
from vllm_diffusion.sampling.base import LogitsOp, SlotCut
from vllm_diffusion.sampling.logit_bias import LogitBias
from vllm_diffusion.sampling.min_p import MinP
from vllm_diffusion.sampling.min_tokens import MinTokens
from vllm_diffusion.sampling.penalties import PenaltiesOp
from vllm_diffusion.sampling.pinned_text import PinnedText
from vllm_diffusion.sampling.top_k_top_p import TopKTopP
from vllm_diffusion.sampling.top_n_sigma import TopNSigma

LOGITS_OPS: tuple[type[LogitsOp], ...] = (
    AllowedIds,
    LogitBias,
    MinTokens,
    PinnedText,
    PenaltiesOp,
    BadWordsOp,
)
"""vLLM's order; it has no ``PinnedText``, which forbids what ``MinTokens`` does."""

CUTS: tuple[type[SlotCut], ...] = (TopNSigma, MinP, TopKTopP)
"""vLLM's order; a cut of raw logits comes before the temperature, the others behind it."""


def neutral_cuts(zeros_N: Tensor, vocab_size: int) -> tuple[Cut, ...]:
    """All of them, for as many rows, where they leave everything."""
    return tuple(
        Cut(
            kind.leave,
            tuple(zeros_N + value for value in kind.neutral(vocab_size)),
            torch.ones_like(zeros_N, dtype=torch.bool),
            kind.is_raw,
        )
        for kind in CUTS
    )
