"""LoRA's products on the CPU, an adapter at a time: a row of index -1 has none.

vLLM's own gather a matrix for every row, and -1 takes the last one. Same names and arguments as in
``vllm.lora.ops.torch_ops.lora_ops``; ``sgmv_*`` of that module call these.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _product(inputs: Tensor, weights: Tensor, slots: Tensor, dtype: torch.dtype) -> Tensor:
    """Each row (in) times its adapter's matrix, of ``weights`` (slots, 1?, out, in); else 0."""
    outputs = torch.zeros(len(inputs), weights.shape[-2], dtype=dtype)
    for slot in slots.unique().tolist():  # type: ignore[no-untyped-call]
        if slot >= 0:
            matrix = weights[slot].view(weights.shape[-2:]).to(dtype)
            rows = slots == slot
            outputs[rows] = inputs[rows].to(dtype) @ matrix.T
    return outputs


def bgmv_shrink(
    inputs: Tensor,
    lora_b_weights: Tensor,
    output_tensor: Tensor,
    lora_indices_tensor: Tensor,
    scaling: float = 1.0,
) -> None:
    """The first of an adapter's two products."""
    product = _product(inputs, lora_b_weights, lora_indices_tensor, output_tensor.dtype)
    output_tensor[:, : product.shape[1]] = scaling * product


def bgmv_expand(
    inputs: Tensor,
    lora_b_weights: Tensor,
    output_tensor: Tensor,
    lora_indices_tensor: Tensor,
    add_inputs: bool = True,
) -> None:
    """The second; adapter and model may be padded to different widths."""
    width = min(lora_b_weights.shape[-2], output_tensor.shape[1])
    _write(inputs, lora_b_weights, output_tensor[:, :width], lora_indices_tensor, add_inputs)


def bgmv_expand_slice(
    inputs: Tensor,
    lora_b_weights: Tensor,
    output_tensor: Tensor,
    lora_indices_tensor: Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """The second, of one of several projections that share an output."""
    part = output_tensor[:, slice_offset : slice_offset + slice_size]
    _write(inputs, lora_b_weights, part, lora_indices_tensor, add_inputs)


def _write(inputs: Tensor, weights: Tensor, target: Tensor, slots: Tensor, adds: bool) -> None:
    product = _product(inputs, weights, slots, target.dtype)[:, : target.shape[1]]
    if adds:
        target += product
    else:
        target.copy_(product)
