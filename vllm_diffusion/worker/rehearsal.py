"""The memory of a step's sampling, taken once while vLLM measures what a step takes.

vLLM's profile run calls the sampler with one row of logits a request and without a canvas. A step
has a row for each position of each canvas, and works on copies of them, ``kernels.tiles`` at a
time. Without this the KV cache would get that memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.denoise.sample import Draws, candidates
from vllm_diffusion.kernels.tiles import rows_at_a_time
from vllm_diffusion.sampling.ops import neutral_cuts
from vllm_diffusion.structured.class_draws import class_draws
from vllm_diffusion.structured.class_stats import class_stats
from vllm_diffusion.structured.token_classes import TokenClasses


def rehearse(logits_NV: Tensor, num_rows: int, mask_id: int) -> None:
    """Take what the largest step takes.

    Args:
        logits_NV: of the profile run; their dtype and device count.
        num_rows: rows of the largest step.
        mask_id: the mask token.
    """
    vocab_size, device = logits_NV.shape[1], logits_NV.device
    logits_NV = logits_NV.new_zeros((num_rows, vocab_size))
    row = np.arange(min(rows_at_a_time(vocab_size), num_rows))
    row_N = torch.from_numpy(row).to(device)
    zeros_N, ones_N = torch.zeros_like(row_N), torch.ones(len(row), device=device)
    draws = Draws(
        row_N=row_N,
        temperature_N=ones_N,
        seed_N=zeros_N,
        position_N=zeros_N,
        step_N=zeros_N,
        cuts=neutral_cuts(zeros_N, vocab_size),
        rows=row,
    )
    candidates(logits_NV, torch.arange(num_rows, device=device)[None], mask_id, draws)
    classes = [TokenClasses(np.zeros(vocab_size, dtype=np.int32), 1)] * len(row)
    class_stats(logits_NV, row, classes, 1, mask_id)
    class_draws(logits_NV, row, classes, 1, mask_id, draws)
