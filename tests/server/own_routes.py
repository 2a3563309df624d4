"""This package's own routes on plain ``vllm serve``: an endpoint plugin without an installation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "diffusion_routes_of_tests"


class Routes:
    """What vLLM loads."""

    name = NAME
    required_tasks = ("generate",)

    def attach_router(self, app: Any) -> None:
        from vllm_diffusion.endpoints.decisions import router

        app.include_router(router)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Nothing to do."""


def switch_on(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have servers that start from now on load the routes."""
    record = folder / f"{NAME}-1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1\n")
    entry = f"[vllm.endpoint_plugins]\n{NAME} = tests.server.own_routes:Routes\n"
    (record / "entry_points.txt").write_text(entry)
    paths = [str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")]
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    patch.setenv("VLLM_PLUGINS", f"diffusion,{NAME}")
