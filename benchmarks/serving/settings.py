"""What is compared: a model and how it decodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NGRAM = {"method": "ngram", "num_speculative_tokens": 8, "prompt_lookup_max": 4}
"""vLLM's drafts from the prompt, for the twin."""
DEFAULT = "default"
"""Stands for the threshold in the model's own generation_config.json."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the comparison."""

    model: Path
    threshold: float | None
    """None for the autoregressive twin."""
    is_default: bool = False
    """Whether the threshold is the model's own."""
    has_drafts: bool = False
    """The twin with n-gram speculation."""

    @property
    def name(self) -> str:
        if self.threshold is None:
            return "AR twin, n-gram drafts" if self.has_drafts else "AR twin"
        return f"threshold {self.threshold:g}" + ("*" if self.is_default else "")

    @property
    def xargs(self) -> dict[str, Any]:
        """The request's fields."""
        return {} if self.threshold is None else {"diffusion_threshold": self.threshold}

    @property
    def options(self) -> dict[str, Any]:
        """Of the engine, beside those that all settings share."""
        return {"speculative_config": NGRAM} if self.has_drafts else {}


def default_threshold(model: Path) -> float:
    """The threshold that the model is shipped with.

    Raises:
        ValueError: the model has none.
    """
    path = model / "generation_config.json"
    config = json.loads(path.read_text()) if path.is_file() else {}
    if "diffusion_threshold" not in config:
        raise ValueError(
            f"{path} has no diffusion_threshold: give numbers to --thresholds, without 'default'."
        )
    return float(config["diffusion_threshold"])


def diffusion_settings(model: Path, thresholds: Sequence[str]) -> list[Setting]:
    """One setting a distinct threshold, the strictest first.

    Args:
        model: the diffusion model's folder.
        thresholds: numbers, or ``default``.

    Raises:
        ValueError: a threshold is neither.
    """
    own = default_threshold(model) if DEFAULT in thresholds else None
    values: set[float] = set()
    for text in thresholds:
        try:
            values.add(own if own is not None and text == DEFAULT else float(text))
        except ValueError:
            raise ValueError(f"--thresholds {text}: neither a number nor 'default'.") from None
    return [Setting(model, value, value == own) for value in sorted(values, reverse=True)]
