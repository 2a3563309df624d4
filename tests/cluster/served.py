"""``vllm serve`` on the head of a cluster, and requests to it from there."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.raylets import Cluster

START_SECONDS = 400
PORT = 8000
OPTIONS = (
    *("--dtype", "float32"),
    "--enforce-eager",
    *("--max-model-len", "512"),
    *("--max-num-seqs", "8"),
    *("--kv-cache-memory-bytes", str(1 << 24)),
    *("--served-model-name", "model"),
)
RAY = ("--distributed-executor-backend", "ray")


class Served:
    """A server; ``options`` spread it over the hosts."""

    def __init__(self, cluster: Cluster, name: str, model: Path, *options: str) -> None:
        self.cluster, self.name = cluster, name
        self.url = f"http://{cluster.head.address}:{PORT}"
        address = ("--host", cluster.head.address, "--port", str(PORT))
        self.process = cluster.serve(name, "serve", str(model), *address, *OPTIONS, *options)

    @property
    def log(self) -> str:
        """What it has said; nothing while it is not there yet."""
        file = self.cluster.log(self.name)
        return file.read_text(errors="replace") if file.is_file() else ""

    def end(self) -> None:
        """End it, whatever its state; its ranks end with it, and their CPUs are free again."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)

    def wait(self) -> None:
        """Return once requests are served.

        Raises:
            RuntimeError: it ended or took too long; with the end of its log.
        """
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            (answer,) = self.ask([{"path": "/health"}])
            if answer["status"] == 200:
                self.cluster.prepare()
                return
            time.sleep(0.5)
        raise RuntimeError(f"{self.name} ended ({self.process.poll()})\n{self.log[-6000:]}")

    def ask(self, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers to requests, sent together from the head."""
        return [json.loads(line) for line in self.asking(requests).communicate()[0].splitlines()]

    def asking(self, requests: Sequence[dict[str, Any]]) -> subprocess.Popen[str]:
        """The process that sends them: a line a request, in order (``tests.cluster.asker``)."""
        told = json.dumps({"url": self.url, "requests": list(requests)})
        return subprocess.Popen(
            self.cluster.head.command(sys.executable, "-m", "tests.cluster.asker", told),
            stdout=subprocess.PIPE,
            text=True,
        )
