"""What start-up makes of a checkpoint's own defaults."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="start-up is vLLM's")

from safetensors.torch import load_file, save_file

from tests.checkpoints import llada2
from vllm_diffusion.startup import checkpoint_hook as startup


def model_config(folder: Path) -> Any:
    return SimpleNamespace(model=str(folder), hf_config=SimpleNamespace())


@pytest.mark.parametrize(("release", "preset"), [("2.0", None), ("2.1", "quality")])
def test_editing_weights_are_edited_with(release: str, preset: str | None, tmp_path: Path) -> None:
    folder = llada2.write(tmp_path, release=release, tokenizer=True)
    file = folder / "model.safetensors"
    weights = {
        name: tensor if name.endswith("expert_bias") else tensor.bfloat16()
        for name, tensor in load_file(file).items()
    }
    save_file(weights, file, metadata={"format": "pt"})
    config = model_config(folder)
    startup._choose_preset(config)
    assert getattr(config.hf_config, "diffusion_preset", None) == preset
