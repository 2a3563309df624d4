"""Print the paths of the core, which `pyproject.toml` defines: what runs with torch alone."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name in settings["tool"]["vllm_diffusion"]["core"]:
        folder = Path("vllm_diffusion") / name
        print(folder if (ROOT / folder).is_dir() else folder.with_suffix(".py"))
