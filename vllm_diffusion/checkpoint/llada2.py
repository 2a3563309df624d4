"""What tells LLaDA2.1 from LLaDA2.0, whose configs are the same."""

from __future__ import annotations

from pathlib import Path

from vllm_diffusion.checkpoint.headers import has_safetensors, read_headers

BIAS = ".mlp.gate.expert_bias"


def is_edit_trained(model_dir_or_name: str | Path) -> bool | None:
    """Whether the weights are of LLaDA2.1, which learned to replace accepted tokens.

    Checkpoints of 2.1 store the biases of the experts as F32 among BF16 weights, those
    of 2.0 as BF16. Only headers are read. None where it cannot be told: no safetensors
    files in a local folder, or all of them in one other type.
    """
    if not has_safetensors(model_dir_or_name):
        return None
    tensors = read_headers(model_dir_or_name)
    biases = {tensor.dtype for name, tensor in tensors.items() if name.endswith(BIAS)}
    others = {tensor.dtype for name, tensor in tensors.items() if not name.endswith(BIAS)}
    if biases == {"F32"} and others != {"F32"}:
        return True
    return False if biases == {"BF16"} else None
