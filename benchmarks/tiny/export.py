"""Write a checkpoint as a model folder that servers load.

    python -m benchmarks.tiny.export diffusion examples/models/tiny-diffusion --threshold 0.99
    python -m benchmarks.tiny.export twin examples/models/tiny-ar

With ``--threshold`` the folder is in the SDAR format, without it in the Qwen3 format; the tensors
have the same names and shapes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from .batches import BLOCK
from .checkpoint import load_model
from .model import Shape
from .tasks.fim import GAP
from .tokenizer import EOS_ID, MASK_ID, PAD_ID, load_tokenizer, save_tokenizer


def build_config(shape: Shape, is_diffusion: bool) -> dict[str, Any]:
    """``config.json``."""
    config: dict[str, Any] = {
        "architectures": ["SDARForCausalLM" if is_diffusion else "Qwen3ForCausalLM"],
        "model_type": "sdar" if is_diffusion else "qwen3",
        **shape.as_config(),
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
        "use_cache": True,
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": shape.num_hidden_layers,
        "rope_scaling": None,
        "bos_token_id": None,
        "eos_token_id": EOS_ID,
        "pad_token_id": PAD_ID,
        "torch_dtype": "bfloat16",
    }
    if is_diffusion:
        config |= {
            "block_size": BLOCK,
            "mask_token_id": MASK_ID,
            # Read by ``server/infill.py``: the prompt of the task fim.
            "infill_prompt": f"Fill the gap {GAP} in:\n{{prefix}}{GAP}{{suffix}}",
            "edit_prompt": "{instruction}\n\n{text}",
        }
    return config


def build_generation_config(threshold: float | None) -> dict[str, Any]:
    """``generation_config.json``: greedy; the threshold chosen on validation prompts."""
    config: dict[str, Any] = {
        "eos_token_id": [EOS_ID],
        "pad_token_id": PAD_ID,
        "do_sample": False,
        "temperature": 0.0,
    }
    if threshold is not None:
        config |= {"diffusion_policy": "confidence", "diffusion_threshold": threshold}
    return config


def export(stage: str, folder: Path, threshold: float | None) -> None:
    """Write weights, configurations and tokenizer."""
    model = load_model(stage)
    save_tokenizer(load_tokenizer(), folder)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    files = {
        "config.json": build_config(model.shape, threshold is not None),
        "generation_config.json": build_generation_config(threshold),
    }
    for name, data in files.items():
        (folder / name).write_text(json.dumps(data, indent=2) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threshold", type=float, help="makes it a diffusion model")
    args = parser.parse_args()
    export(args.stage, args.folder, args.threshold)


if __name__ == "__main__":
    main()
