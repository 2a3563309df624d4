"""A checkpoint's matrices in int8, as compressed-tensors writes W8A8, and what they stand for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests.checkpoints.weights import Weights

WEIGHTS = "model.safetensors"
_EIGHT_BITS = {"num_bits": 8, "type": "int", "symmetric": True}
CONFIG = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {**_EIGHT_BITS, "strategy": "channel", "dynamic": False},
            "input_activations": {**_EIGHT_BITS, "strategy": "token", "dynamic": True},
        }
    },
}


def write(folder: Path, base: Path) -> tuple[Path, Path]:
    """Write the quantised checkpoint and the dequantised one; returns their folders."""
    quantised, plain = folder / "int8", folder / "plain"
    for target in (quantised, plain):
        shutil.copytree(base, target)
    config = json.loads((base / "config.json").read_text()) | {"quantization_config": CONFIG}
    (quantised / "config.json").write_text(json.dumps(config))
    kept: Weights = {}
    meant: Weights = {}
    for name, tensor in load_file(base / WEIGHTS).items():
        if name.endswith("_proj.weight"):
            scale = tensor.abs().amax(1, keepdim=True) / 127
            rounded = (tensor / scale).round()
            kept[name], kept[f"{name}_scale"] = rounded.char(), scale
            meant[name] = rounded * scale
        else:
            kept[name] = meant[name] = tensor
    save_file(kept, quantised / WEIGHTS, metadata={"format": "pt"})
    save_file(meant, plain / WEIGHTS, metadata={"format": "pt"})
    return quantised, plain
