"""Which class and config shim serve an architecture: tables, each derived from the rows."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.family.rows import FAMILIES

WITHOUT_TRITON: dict[str, str] = {
    "DiffusionGemmaForBlockDiffusion": (
        "vllm_diffusion.models.diffusion_gemma:DiffusionGemmaForBlockDiffusion"
    ),
}
"""vLLM decodes these itself, on Triton: here only where there is none, and not in FAMILIES."""

MODEL_CLASSES: dict[str, str] = {}
"""By ``architectures[0]``; imported when a checkpoint asks for it."""
SERVED: dict[str, str] = {}
"""The name for people of every architecture that is served, by ``architectures[0]``."""
MODEL_TYPES: dict[str, str] = {}
"""By architecture: which shim reads a config that only ``--hf-overrides`` calls by that name."""
CONFIG_SHIMS: dict[str, str] = {}
"""By ``model_type``. Types that transformers knows are not here: their classes stay as they are."""


def add(record: FamilyRecord) -> None:
    """Take up a family: one of the rows, or one from outside before ``plugin.register``.

    Raises:
        ValueError: its ``model_type`` is read by another shim.
    """
    shim = CONFIG_SHIMS.setdefault(record.model_type, record.config)
    if shim != record.config:
        raise ValueError(
            f"{record.architecture}: configs of model_type {record.model_type!r} are read by "
            f"{shim}, so not by {record.config}; extend that shim (BY_ARCHITECTURE)"
        )
    FAMILIES[record.architecture] = record
    MODEL_CLASSES[record.architecture] = record.model
    MODEL_TYPES[record.architecture] = record.model_type
    SERVED[record.architecture] = record.title


for _record in [*FAMILIES.values()]:
    add(_record)
SERVED["DiffusionGemmaForBlockDiffusion"] = "DiffusionGemma"


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def config_shim(model_type: str | None) -> Any:
    """The class of a ``model_type`` of ours, or None."""
    path = CONFIG_SHIMS.get(model_type or "")
    return None if path is None else _load(path)
