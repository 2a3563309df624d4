"""Judge a draft by the model's own causal mode (linear self-speculation).

Shape suffixes: B requests in the step, L canvas length, E stop ids a request.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_diffusion.denoise.converge import first_stop, first_true


def verify(
    tokens_BL: Tensor,
    next_BL: Tensor,
    width_B: Tensor,
    limit_B: Tensor,
    stop_ids_BE: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Accept the longest prefix of each draft that causal greedy decoding would have made.

    Position 0 is the seed, which is causal by construction. Nemotron-Labs-
    Diffusion, ``linear_spec_generate``.

    Args:
        tokens_BL: int64 (B, L), seed and draft as the causal forward has read them.
        next_BL: int64 (B, L), the causal candidate for the token after each position.
        width_B: int64 (B,), canvas positions that exist.
        limit_B: int64 (B,), tokens that the request may still emit.
        stop_ids_BE: int64 (B, E), padded with -1.

    Returns:
        int64 (B, L) the accepted prefix and the causal token after it (where it has
        a position), int64 (B,) how many of these to emit, at least 1, and int64 (B,)
        that token after the prefix, which seeds the next draft. It is emitted only
        where it ends the request: its own K and V are not there yet.
    """
    length = tokens_BL.shape[1]
    position_L = torch.arange(length, device=tokens_BL.device)
    is_wrong_BL = position_L >= width_B[:, None]
    is_wrong_BL[:, 1:] |= tokens_BL[:, 1:] != next_BL[:, :-1]
    num_right_B = first_true(is_wrong_BL)
    seed_B = next_BL.gather(1, num_right_B[:, None] - 1)[:, 0]
    text_BL = torch.where(position_L == num_right_B[:, None], seed_B[:, None], tokens_BL)
    num_known_B = (num_right_B + 1).clamp(max=length)
    end_B = torch.minimum(num_known_B, limit_B)
    first_stop_B = first_stop(text_BL, position_L < end_B[:, None], stop_ids_BE)
    is_over_B = (first_stop_B < length) | (limit_B <= num_known_B)
    last_B = torch.minimum(end_B, first_stop_B + 1)
    return text_BL, torch.where(is_over_B, last_B, num_right_B), seed_B
