"""``vllm-diffusion serve``: ``vllm serve`` with the routes of this package."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from itertools import chain
from typing import NoReturn

ENDPOINTS = "vllm.endpoint_plugins"
OURS = ("diffusion", "diffusion_endpoints")


def plugins(named: str | None, installed: Iterable[EntryPoint]) -> str:
    """``VLLM_PLUGINS`` with ours in it; what was loaded without it still is.

    Args:
        named: of the environment. None has vLLM load every plugin but those with routes.
        installed: the entry points of all packages.
    """
    if named is not None:
        names = [name for name in named.split(",") if name]
    else:
        names = [
            point.name
            for point in installed
            if point.group.startswith("vllm.") and point.group != ENDPOINTS
        ]
    return ",".join(dict.fromkeys([*names, *OURS]))


def _of_group(group: str) -> Iterable[EntryPoint]:
    return entry_points(group=group)


def run(arguments: Sequence[str]) -> NoReturn:
    """Serve, as ``vllm serve`` does with the same arguments."""
    os.environ["VLLM_PLUGINS"] = plugins(
        os.environ.get("VLLM_PLUGINS"), chain.from_iterable(map(_of_group, entry_points().groups))
    )
    beside = shutil.which("vllm", path=os.path.dirname(sys.executable))
    command = beside or shutil.which("vllm")
    if command is None:
        raise SystemExit("vllm-diffusion serve: there is no command `vllm`; install vLLM")
    # The same process, so that signals and the exit code are vLLM's own.
    os.execv(command, [command, "serve", *arguments])
