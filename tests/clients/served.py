"""The one server that all clients ask: what ``make serve`` starts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.server.process import end_with_parent, free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240
OPTIONS = """--additional-config '{"likelihood": "mc", "likelihood_samples": 6}'"""
"""lm-eval as it is can name no estimate of log-probabilities."""


@contextmanager
def served(place: Path) -> Iterator[str]:
    """The address of a server, whose log is in ``place``; ``.venv`` is up to date by now."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            (
                "make",
                "--no-print-directory",
                "-o",
                "setup",
                "serve",
                f"PORT={port}",
                f"ARGS={OPTIONS}",
            ),
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
    try:
        wait_until_healthy(url, server, place / "serve.log")
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def wait_until_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return once requests are served.

    Raises:
        RuntimeError: it ended or took too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the server is not ready; see {log}")
