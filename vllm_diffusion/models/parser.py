"""Errors for diffusion checkpoints that nothing here can serve.

vLLM would say that an architecture is unknown and list its own few hundred, or
ask for ``--trust-remote-code``, which does not help: remote code brings no decoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from vllm.transformers_utils.config import HFConfigParser

from vllm_diffusion.families import FAMILIES
from vllm_diffusion.models.registry import MODEL_TYPES, config_shim

NAME_HINTS = ("diffu", "dllm", "llada", "sdar", "dream")
FIELD_HINTS = ("mask_token_id", "canvas_length", "bd_size")


def diffusion_hints(config: Mapping[str, Any]) -> list[str]:
    """What in a ``config.json`` speaks for a diffusion language model."""
    names = [*(config.get("architectures") or []), config.get("model_type") or ""]
    names += [value for value in (config.get("auto_map") or {}).values() if isinstance(value, str)]
    found = [name for name in names if any(hint in name.lower() for hint in NAME_HINTS)]
    return found + [name for name in FIELD_HINTS if config.get(name) is not None]


def refuse_unknown(config: Mapping[str, Any]) -> None:
    """Raise if this looks like a diffusion model that neither we nor vLLM can serve."""
    import transformers
    from vllm import ModelRegistry

    architectures = config.get("architectures") or []
    if any(name in ModelRegistry.models or hasattr(transformers, name) for name in architectures):
        return
    hints = diffusion_hints(config)
    if hints:
        known = "\n".join(
            f"  {record.architecture}: {record.title}" for record in FAMILIES.values()
        )
        raise ValueError(
            f"architectures={architectures} in config.json is not supported. It looks like a "
            f"diffusion language model ({', '.join(dict.fromkeys(hints))}), of which "
            f"vllm_diffusion serves these architectures:\n{known}\n"
            "If the network is one of these under another name, say so with --hf-overrides "
            '\'{"architectures": ["..."]}\''
        )


class DiffusionAwareParser(HFConfigParser):
    """vLLM's parser of ``config.json``, but for diffusion models.

    Its failures say more, unknown diffusion models are refused, and the architecture that
    ``--hf-overrides`` names is read by its own shim, as if the file named it.
    """

    def parse(
        self, model: str | Path, trust_remote_code: bool, *args: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], Any]:
        overrides = kwargs.get("hf_overrides") or {}
        said = dict(overrides) if isinstance(overrides, Mapping) else {}
        architecture = (said.get("architectures") or [""])[0]
        if architecture in FAMILIES:
            said.setdefault("model_type", MODEL_TYPES[architecture])
            kwargs["hf_overrides"] = said
        try:
            fields, config = super().parse(model, trust_remote_code, *args, **kwargs)
        except (ValueError, RuntimeError):
            revision = kwargs.get("revision")
            fields, _ = PreTrainedConfig.get_config_dict(model, revision=revision)
            refuse_unknown(fields | said)
            raise
        refuse_unknown(fields | said)
        if architecture in FAMILIES and (shim := config_shim(said["model_type"])) is not None:
            # vLLM lays the overrides over the made config, too late for the choice of its class.
            named = {name: said[name] for name in ("architectures", "model_type")}
            config = shim.from_dict(fields | named, name_or_path=str(model))
        return fields, config
