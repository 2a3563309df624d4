"""A checkpoint of somebody else's that looks like a diffusion model and is none.

Its architecture's name contains "dream", its config has a mask token and names remote code.
"""

from __future__ import annotations

import json
from pathlib import Path

ARCHITECTURE = "AcmeDreamForCausalLM"
TINY_AR = Path(__file__).resolve().parents[1] / "examples" / "models" / "tiny-ar"

CONFIGURATION = """
from transformers import Qwen3Config

class AcmeDreamConfig(Qwen3Config):
    model_type = "acme_dream"
"""
MODELING = """
from transformers import Qwen3ForCausalLM, Qwen3Model
from .configuration_acme import AcmeDreamConfig

class AcmeDreamModel(Qwen3Model):
    config_class = AcmeDreamConfig

class AcmeDreamForCausalLM(Qwen3ForCausalLM):
    config_class = AcmeDreamConfig
"""


def write(folder: Path) -> Path:
    """The network of the bundled autoregressive model, under another name and with its own code."""
    config = json.loads((TINY_AR / "config.json").read_text()) | {
        "architectures": [ARCHITECTURE],
        "model_type": "acme_dream",
        "mask_token_id": 7,
        "auto_map": {
            "AutoConfig": "configuration_acme.AcmeDreamConfig",
            "AutoModel": "modeling_acme.AcmeDreamModel",
            "AutoModelForCausalLM": f"modeling_acme.{ARCHITECTURE}",
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_acme.py").write_text(CONFIGURATION)
    (folder / "modeling_acme.py").write_text(MODELING)
    (folder / "model.safetensors").symlink_to(TINY_AR / "model.safetensors")
    return folder
