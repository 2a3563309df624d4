"""This package's own routes on plain ``vllm serve``: its endpoint plugin, under another name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "diffusion_routes_of_tests"
PLUGIN = "vllm_diffusion.endpoints.plugin:DiffusionEndpoints"


def switch_on(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have servers that start from now on load the routes."""
    record = folder / f"{NAME}-1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1\n")
    entry = f"[vllm.endpoint_plugins]\n{NAME} = {PLUGIN}\n"
    (record / "entry_points.txt").write_text(entry)
    paths = [str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")]
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    patch.setenv("VLLM_PLUGINS", f"diffusion,{NAME}")
