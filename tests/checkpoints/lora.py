"""Random LoRA adapters of a checkpoint, in PEFT's format, and the checkpoint with one merged in."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests.checkpoints.weights import Draw, Weights

RANK = 4
WEIGHTS = "model.safetensors"
LAYERS = re.compile(r"(q_proj|v_proj|o_proj|attn_out|up_proj|down_proj|\d\.ff_out)\.weight$")
HEAD = re.compile(r"transformer\.ff_out\.weight$")
"""LLaDA's: its rows are those of the logits. vLLM adapts no head of Qwen2 or Mistral."""


def _drawn(base: Path, seed: int) -> Weights:
    """Both matrices of every adapted tensor, under the tensors' released names."""
    draw, made = Draw(seed), {}
    for name, tensor in sorted(load_file(base / WEIGHTS).items()):
        if (LAYERS.search(name) or HEAD.search(name)) and tensor.dim() == 2:
            rows, columns = tensor.shape
            stem = name.removesuffix(".weight")
            made[f"{stem}.lora_A"] = draw.matrix(RANK, columns)
            made[f"{stem}.lora_B"] = draw.normal(rows, RANK, spread=0.4)
    return made


def write(folder: Path, base: Path, *, seed: int) -> Path:
    """Write an adapter of the checkpoint in ``base`` and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = _drawn(base, seed)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "bias": "none",
        "target_modules": sorted({name.split(".")[-2] for name in drawn}),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {f"base_model.model.{name}.weight": tensor for name, tensor in drawn.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def merge(folder: Path, base: Path, *, seed: int) -> Path:
    """Write the checkpoint with the adapter of ``seed`` in its weights, and return its folder."""
    shutil.copytree(base, folder)
    weights, drawn = load_file(base / WEIGHTS), _drawn(base, seed)
    for name in drawn:
        if name.endswith("lora_A"):
            stem = name.removesuffix(".lora_A")
            weights[f"{stem}.weight"] += drawn[f"{stem}.lora_B"] @ drawn[name]
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return folder
