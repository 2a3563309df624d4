"""Trace replay: a sampled token is overwritten by the one recorded for that step."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def replay_trace(
    sampled_ptr: Tensor,
    idx_mapping_ptr: Tensor,
    trace_token_ids_ptr: Tensor,
    trace_token_ids_stride: int,
    trace_len_ptr: Tensor,
    total_len_ptr: Tensor,
    prompt_len_ptr: Tensor,
    **_: Any,
) -> None:
    """Replace ``trace_replay._trace_replay_kernel``; requests that are dummies (negative index),
    have no trace or are past its end keep what was sampled."""
    req = idx_mapping_ptr.numpy()
    step = total_len_ptr.numpy()[req] - prompt_len_ptr.numpy()[req]
    replays = (req >= 0) & (step >= 0) & (step < trace_len_ptr.numpy()[req])
    rows = replays.nonzero()[0]
    if len(rows):
        sampled_ptr.numpy()[rows] = trace_token_ids_ptr.numpy()[req[rows], step[rows]]
