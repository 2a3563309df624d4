"""Environments of clients under ``build/clients``, made when they are asked for.

A virtual environment or a node folder each, from the package registries. ``.venv`` is not touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.clients.registry import CLIENTS

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "clients"
SCRIPTS = Path(__file__).parent
CLIENT_SECONDS = 600


def command_of(name: str) -> list[str]:
    """What runs a client's script; its environment is made where it is not up to date."""
    client, place = CLIENTS[name], PLACE / name
    if not client.packages:
        return [sys.executable, str(SCRIPTS / f"with_{name}.py")]
    wanted = "\n".join(client.packages)
    stamp = place / "stamp"
    if not stamp.exists() or stamp.read_text() != wanted:
        install = _install_node if client.is_node else _install_python
        install(place, client.packages)
        stamp.write_text(wanted)
    if not client.is_node:
        return [str(place / "bin" / "python"), str(SCRIPTS / f"with_{name}.py")]
    # Node looks for packages beside the script.
    for script in ("checks.mjs", f"with_{name}.mjs"):
        shutil.copy(SCRIPTS / script, place)
    return ["node", str(place / f"with_{name}.mjs")]


def _install_python(place: Path, packages: Sequence[str]) -> None:
    _run(sys.executable, "-m", "venv", "--clear", str(place))
    uv, python = Path(sys.executable).with_name("uv"), str(place / "bin" / "python")
    if uv.exists():
        _run(str(uv), "pip", "install", "--quiet", "--python", python, *packages)
    else:
        quiet = ("--quiet", "--disable-pip-version-check")
        _run(python, "-m", "pip", "install", *quiet, *packages)


def _install_node(place: Path, packages: Sequence[str]) -> None:
    if shutil.which("npm") is None:
        raise FileNotFoundError("npm is not installed; it comes with Node 18 or newer")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "package.json").write_text('{"private": true, "type": "module"}\n')
    quiet = ("--silent", "--no-fund", "--no-audit", "--save-exact")
    _run("npm", "install", *quiet, *packages, folder=place)


def _run(*command: str, folder: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no words"]
        raise RuntimeError(f"{' '.join(command[:4])} ...: {said[-1]}")


def said_by(name: str, url: str, questions: Path) -> subprocess.CompletedProcess[str]:
    """Run a client's script."""
    command = [*command_of(name), url, str(questions)]
    # Nothing of this checkout: the client's own environment, and its packages alone.
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    home = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(PLACE / name / "cache"), "OPENAI_API_KEY": "none"}
    return subprocess.run(
        command, cwd=ROOT, env=own | home, capture_output=True, text=True, timeout=CLIENT_SECONDS
    )
