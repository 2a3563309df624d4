"""What a request adds to the model's logits, or forbids, before anything is read off them.

In place, on the rows of the requests that ask alone: the rest of the logits is neither read nor
copied. The order is vLLM's: allowed ids, biases, stop ids that come too early, penalties, bad
words (``bad_words``). Each function takes lists of one length a row; a shorter list repeats one
of its entries, which changes nothing.

Shape suffixes: N rows of logits, V vocabulary, P rows that ask, K ids a row, Q requests that ask,
T tokens of a request.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def keep_allowed(logits_NV: Tensor, row_P: Tensor, ids_PK: Tensor) -> None:
    """Forbid everything but ``ids_PK`` in the rows ``row_P``."""
    row_P1 = row_P[:, None]
    kept_PK = logits_NV[row_P1, ids_PK]
    logits_NV.index_fill_(0, row_P, -torch.inf)
    logits_NV[row_P1, ids_PK] = kept_PK


def add_bias(logits_NV: Tensor, row_P: Tensor, ids_PK: Tensor, bias_PK: Tensor) -> None:
    """Add ``bias_PK`` (float32) to the logits of ``ids_PK``; an id has one bias."""
    row_P1 = row_P[:, None]
    biased_PK = logits_NV[row_P1, ids_PK].float() + bias_PK
    logits_NV[row_P1, ids_PK] = biased_PK.to(logits_NV.dtype)


def forbid(logits_NV: Tensor, row_PK: Tensor, ids_PK: Tensor) -> None:
    """Forbid ``ids_PK`` in the rows ``row_PK``, which broadcast to each other."""
    logits_NV[row_PK, ids_PK] = -torch.inf


@dataclass(frozen=True, slots=True)
class History:
    """The tokens of the requests with penalties."""

    tokens_QT: Tensor
    """int64. Any ids where neither of the next two is true."""
    in_prompt_QT: Tensor
    """bool."""
    in_output_QT: Tensor
    """bool. Emitted, or accepted in the canvas at the moment."""


@dataclass(frozen=True, slots=True)
class Penalties:
    """Of the requests that have any; 1, 0 and 0 ask for nothing. float32."""

    repetition_Q: Tensor
    frequency_Q: Tensor
    presence_Q: Tensor


def penalize(
    logits_NV: Tensor,
    row_P: Tensor,
    request_P: Tensor,
    own_P: Tensor,
    history: History,
    penalties: Penalties,
) -> None:
    """Penalise the tokens that prompt and output hold.

        repetition, in prompt or output:  l / r if l > 0 else l * r
        frequency, presence, in output:   l - f * count - p * [count > 0]

    CTRL's repetition penalty (arXiv 1909.05858) and OpenAI's two, in vLLM's order. Touches the
    logits of those tokens alone.

    Args:
        logits_NV: (N, V).
        row_P: int64 (P,), rows of the requests with penalties.
        request_P: int64 (P,), which of the Q requests.
        own_P: int64 (P,), the accepted token at the row's own position, which does not count
            there; -1 where that is masked.
        history: of the Q requests.
        penalties: of the Q requests.
    """
    num_requests, vocab_size = len(history.tokens_QT), logits_NV.shape[1]
    # Whatever is no token of the request may stand for token 0, whose entry is right anyway.
    is_token_QT = history.in_prompt_QT | history.in_output_QT
    tokens_QT = torch.where(is_token_QT, history.tokens_QT, 0)
    count_QV = torch.zeros(
        num_requests, vocab_size, dtype=torch.float32, device=logits_NV.device
    ).scatter_add_(1, tokens_QT, history.in_output_QT.float())
    prompt_QV = torch.zeros_like(count_QV).scatter_add_(1, tokens_QT, history.in_prompt_QT.float())
    tokens_PT = tokens_QT[request_P]
    request_P1, row_P1 = request_P[:, None], row_P[:, None]
    count_PT = count_QV[request_P1, tokens_PT] - (tokens_PT == own_P[:, None]).float()
    in_prompt_PT = prompt_QV[request_P1, tokens_PT] > 0
    in_output_PT = count_PT > 0
    repetition_P1 = penalties.repetition_Q[request_P1]
    logits_PT = logits_NV[row_P1, tokens_PT].float()
    repeated_PT = torch.where(logits_PT > 0, logits_PT / repetition_P1, logits_PT * repetition_P1)
    logits_PT = torch.where(in_prompt_PT | in_output_PT, repeated_PT, logits_PT)
    logits_PT = logits_PT - penalties.frequency_Q[request_P1] * count_PT
    logits_PT = logits_PT - penalties.presence_Q[request_P1] * in_output_PT
    logits_NV[row_P1, tokens_PT] = logits_PT.to(logits_NV.dtype)
