"""Sampling fields whose values no output can satisfy, alone or together.

Features that exclude each other whatever their values are ``request.conflicts``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams

MAX_BIAS = 1e4
"""More would overflow half-precision logits; much less decides everything already."""

Impossible = tuple[str, object, str]
"""A field, its value and the remedy."""


def contradiction(
    params: SamplingParams, mask_id: int, *, num_free: int | None = None
) -> Impossible | None:
    """What no output can satisfy.

    Args:
        params: of the request. vLLM has checked that ids are in the vocabulary, that there are no
            more log-probabilities than the server allows, and ``min_tokens`` with ``max_tokens``.
        mask_id: never output, whatever is said.
        num_free: tokens that the prompt leaves; None as long as neither that is known nor what
            the tokenizer makes of ``bad_words``.
    """
    bias = params.logit_bias or {}
    for value in bias.values():
        if not math.isfinite(value) or abs(value) > MAX_BIAS:
            return "logit_bias", bias, f"a bias must be a number from {-MAX_BIAS} to {MAX_BIAS}"
    if bias.get(mask_id, 0.0) > 0 or list(bias) == [mask_id]:
        return "logit_bias", bias, f"{mask_id} is the mask token, which is never output"
    words = params.bad_words_token_ids or []
    if num_free is not None:
        if params.bad_words and not words:
            return "bad_words", params.bad_words, "this server has no tokenizer to read them with"
        if 0 < params.min_tokens > num_free:
            return "min_tokens", params.min_tokens, f"the prompt leaves {num_free} tokens"
    if any(not word for word in words):
        return "bad_words", params.bad_words, "a word must have a token"
    return _nothing_left(params, mask_id, words)


def _nothing_left(
    params: SamplingParams, mask_id: int, words: list[list[int]]
) -> Impossible | None:
    """Allowed ids among which a position might find none."""
    allowed = params.allowed_token_ids
    if not allowed:
        return None
    left = set(allowed) - {mask_id}
    if not left:
        return "allowed_token_ids", allowed, "the mask token is never output; allow another"
    stops = set(params.all_stop_token_ids) | set(params.stop_token_ids or ())
    if params.min_tokens and not left - stops:
        return "allowed_token_ids", allowed, "with min_tokens, allow a token that does not stop"
    # Any token of a word may be forbidden at a position, by what happens to stand around it.
    in_words = {token for word in words for token in word}
    if not left - in_words - (stops if params.min_tokens else set()):
        remedy = "every allowed token stands in one of bad_words; allow one that does not"
        return "allowed_token_ids", allowed, remedy
    return None
