"""Bad words: a token that would complete a forbidden sequence gets a logit of -inf."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vllm_diffusion.engine.cpu.logits import assign
from vllm_diffusion.engine.cpu.ragged import steps


def apply_bad_words(
    logits_ptr: Tensor,
    logits_stride: int,
    expanded_idx_mapping_ptr: Tensor,
    bad_word_token_ids_ptr: Tensor,
    bad_word_token_ids_stride: int,
    bad_word_offsets_ptr: Tensor,
    bad_word_offsets_stride: int,
    num_bad_words_ptr: Tensor,
    all_token_ids_ptr: Tensor,
    all_token_ids_stride: int,
    prompt_len_ptr: Tensor,
    total_len_ptr: Tensor,
    input_ids_ptr: Tensor,
    expanded_local_pos_ptr: Tensor,
    **_: Any,
) -> None:
    """Replace ``bad_words._bad_words_kernel``.

    All (row, word) pairs are compared at once: the word but for its last token against as many
    tokens of the output, of which the last ones may be drafts found in `input_ids_ptr`.
    """
    req = expanded_idx_mapping_ptr.numpy()
    num_words = num_bad_words_ptr.numpy()[req]
    total = int(num_words.sum())
    if total == 0:
        return
    row = np.arange(len(req)).repeat(num_words)
    word = steps(total) - (num_words.cumsum() - num_words).repeat(num_words)
    req = req[row]
    offsets = bad_word_offsets_ptr.numpy()
    start = offsets[req, word]
    end = offsets[req, word + 1]
    prefix_len = end - start - 1

    num_drafts = expanded_local_pos_ptr.numpy()[row]
    prompt_len = prompt_len_ptr.numpy()[req]
    output_len = total_len_ptr.numpy()[req] - prompt_len
    fits = prefix_len <= output_len + num_drafts

    step = steps(int(prefix_len.max()))
    is_prefix = (step < prefix_len[:, None]) & fits[:, None]
    words = bad_word_token_ids_ptr.numpy()
    expected = words[req[:, None], (start[:, None] + step) * is_prefix]
    # Place in the output of the token each prefix token has to meet.
    place = (output_len + num_drafts - prefix_len)[:, None] + step
    is_draft = place >= output_len[:, None]
    committed = (place + prompt_len[:, None]) * (is_prefix & ~is_draft)
    draft = (place + (row - num_drafts - output_len + 1)[:, None]) * (is_prefix & is_draft)
    actual = np.where(
        is_draft, input_ids_ptr.numpy()[draft], all_token_ids_ptr.numpy()[req[:, None], committed]
    )
    completes = fits & ((expected == actual) | ~is_prefix).all(axis=1)
    assign(logits_ptr, row[completes], words[req, end - 1][completes], -np.inf)
