"""Torch definitions of the kernels: correct on every device, and what the others are tested on.

Computes in float32 and never waits for the device (no ``.item()``, no data-dependent shape).

Legend: N rows, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor

LOGITS_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class RowStats(NamedTuple):
    """Statistics of the softmax of each row; every field has shape (N,).

    Attributes:
        argmax_N: int64, column of the largest logit, the lowest one on ties.
        prob_N: float32, probability of that column.
        second_N: float32, largest probability among the other columns: equal to ``prob_N`` on an
            exact tie, 0 where there is no other column.
        entropy_N: float32, entropy in nats.
        lse_N: float32, log of the sum of exponentials of the logits.
    """

    argmax_N: Tensor
    prob_N: Tensor
    second_N: Tensor
    entropy_N: Tensor
    lse_N: Tensor


def check_row_stats(logits_NV: Tensor, exclude_id: int) -> None:
    """Raise ValueError unless the arguments are in the domain of ``row_stats``."""
    if logits_NV.dim() != 2:
        raise ValueError(
            f"logits_NV: shape {tuple(logits_NV.shape)} is not (rows, vocabulary); "
            "flatten the leading dimensions, e.g. logits.flatten(0, -2)"
        )
    if logits_NV.dtype not in LOGITS_DTYPES:
        raise ValueError(
            f"logits_NV: dtype {logits_NV.dtype} is not float32, bfloat16 or float16; "
            "convert with logits.float()"
        )
    vocab_size = logits_NV.shape[1]
    if vocab_size == 0:
        raise ValueError("logits_NV: the vocabulary has size 0; pass at least one column")
    if logits_NV.stride(1) != 1 and vocab_size > 1:
        raise ValueError(
            f"logits_NV: stride {logits_NV.stride(1)} along the vocabulary is not 1; "
            "pass logits.contiguous()"
        )
    if not -1 <= exclude_id < vocab_size:
        raise ValueError(
            f"exclude_id: {exclude_id} is not a column of a vocabulary of {vocab_size}; "
            "pass a token id, or -1 to exclude none"
        )


def row_stats(logits_NV: Tensor, exclude_id: int = -1) -> RowStats:
    """Argmax, its probability, the runner-up's probability, entropy and log-sum-exp of each row.

    Column ``exclude_id`` counts as minus infinity. A logit of minus infinity has probability 0 and
    adds nothing to the entropy. A row with a NaN, with plus infinity, or with nothing but minus
    infinity has no softmax: its four floats are NaN, and its argmax is the first NaN, else the
    first plus infinity, else 0.

    Args:
        logits_NV: (N, V) float32, bfloat16 or float16 on any device; V >= 1, N may be 0; entries
            of a row contiguous, any distance between rows. Not changed; gradients do not flow.
        exclude_id: column to leave out (the mask token), or -1.

    Returns:
        RowStats on the device of ``logits_NV``.

    Raises:
        ValueError: an argument is outside the domain above.
    """
    check_row_stats(logits_NV, exclude_id)
    x_NV = logits_NV.detach().to(torch.float32, copy=True)
    if exclude_id >= 0:
        x_NV.select(1, exclude_id).fill_(-torch.inf)
    argmax_N1 = x_NV.argmax(dim=1, keepdim=True)
    max_N1 = x_NV.gather(1, argmax_N1)

    x_NV -= max_N1  # all NaN, or NaN somewhere, where the row has no softmax
    exp_NV = x_NV.exp()
    sum_N = exp_NV.sum(dim=1)
    log_sum_N = sum_N.log()
    # x exp(x) is 0 where exp(x) is, also for x = -inf.
    weighted_N = torch.where(exp_NV > 0, x_NV * exp_NV, 0.0).sum(dim=1)
    second_N = exp_NV.scatter_(1, argmax_N1, 0.0).amax(dim=1)
    return RowStats(
        argmax_N=argmax_N1.squeeze(1),
        prob_N=1.0 / sum_N,
        second_N=second_N / sum_N,
        entropy_N=log_sum_N - weighted_N / sum_N,
        lse_N=max_N1.squeeze(1) + log_sum_N,
    )
