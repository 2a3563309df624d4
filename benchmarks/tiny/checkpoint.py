"""Checkpoints and logs of a stage."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from .model import TinyModel
from .optim import Optimizer
from .paths import BUILD_DIR


def checkpoint_path(stage: str) -> Path:
    """Where a stage keeps its state."""
    return BUILD_DIR / f"{stage}.pt"


def load_model(stage: str) -> TinyModel:
    """The bf16 model of a stage, or of a model folder that ``export`` has written."""
    model = TinyModel().bfloat16()
    if (folder := Path(stage)).is_dir():
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()
    state = torch.load(checkpoint_path(stage), weights_only=False)
    Optimizer(model).load_state_dict(state["optimizer"])
    return model.eval()


def load_progress(stage: str) -> dict[str, Any]:
    """How far a stage has got: rows, samples, pools, seconds."""
    progress: dict[str, Any] = torch.load(checkpoint_path(stage), weights_only=False)["progress"]
    return progress


def append_log(stage: str, progress: dict[str, Any], values: dict[str, float]) -> None:
    """Append a line to the log of a stage."""
    line = {"tokens": progress["tokens"], "seconds": progress["seconds"], **values}
    with (BUILD_DIR / f"{stage}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
