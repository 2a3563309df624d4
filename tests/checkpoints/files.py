"""The files of a checkpoint's folder."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from tests.checkpoints import tokenizer
from tests.checkpoints.weights import Config, Weights


def save(
    folder: Path,
    config: Config,
    weights: Weights,
    *,
    eos: int = 2,
    pad: int = 0,
    mask_token: tuple[str, int] | None = None,
) -> Path:
    """Write a checkpoint into ``folder`` and return it.

    ``mask_token`` is the mask token's spelling and id; with it a tokenizer is written too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generation = {"eos_token_id": [eos], "pad_token_id": pad}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if mask_token is not None:
        spelling, mask_id = mask_token
        tokenizer.write(folder, {spelling: mask_id}, eos=eos, size=config["vocab_size"])
    return folder
