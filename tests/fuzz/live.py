"""A server under a memory limit, a client that times it, and another client who watches it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.fuzz.case import Answer, Case
from tests.server.process import ServerProcess

SERVER_ARGS = (
    *("--kv-cache-memory-bytes", "268435456"),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    *("--max-num-seqs", "16"),
)
ADDRESS_SPACE = 12 << 30
"""Of each process, which maps some 3 GiB at rest."""
MAX_RSS = 5 << 30
"""Of each process; what a small model needs is below 1.5 GiB."""
PLAIN = {"prompt": "x", "max_tokens": 4, "temperature": 0}
WAIT_SECONDS = 2.0
HEALTH_SECONDS = 2.0
"""The driver, the server and whatever else runs here share a few cores."""


class LimitedServer:
    """``vllm serve`` whose processes may not take more than their share of memory."""

    def __init__(self, model: Path, log: Path, *args: str, is_forked: bool = False) -> None:
        self.process = ServerProcess(model, log, *SERVER_ARGS, *args, is_forked=is_forked)
        # Its engine core and worker inherit the limit.
        self.root = psutil.Process(self.process.process.pid)
        self.root.rlimit(psutil.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        self.url, self.model, self.log = self.process.url, self.process.model, log
        self.family: list[psutil.Process] = []

    def wait_until_healthy(self) -> None:
        self.process.wait_until_healthy()
        self.family = [self.root, *self.root.children(recursive=True)]

    def rss(self) -> dict[str, int]:
        """Bytes by process: ``vllm`` is the API server, ``VLLM::...`` the others."""
        found: dict[str, int] = {}
        for one in self.family:
            with contextlib.suppress(psutil.Error):
                name = (one.cmdline() or [one.name()])[0].rpartition("/")[2]
                name = "API server" if one is self.root else name
                found[f"{name} {one.pid}"] = one.memory_info().rss
        return found

    def lost(self) -> list[str]:
        """Processes of the start that have ended."""
        return [str(one.pid) for one in self.family if not one.is_running()]

    def end_greedy(self) -> str | None:
        """Kill a process that has taken too much, before the machine suffers; says which."""
        for one in self.family:
            with contextlib.suppress(psutil.Error):
                if one.memory_info().rss > MAX_RSS:
                    one.kill()
                    return f"process {one.pid} took more than {MAX_RSS >> 20} MiB"
        return None

    def kill(self) -> None:
        """Leave nothing behind; this is no test of a gentle end."""
        for one in self.family:
            with contextlib.suppress(psutil.Error):
                one.kill()
        self.process.kill()


class Sender:
    """Sends cases; one for all threads."""

    def __init__(self, url: str, model: str, timeout: float = 60) -> None:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=0)
        self.client = httpx.Client(base_url=url, timeout=timeout, limits=limits)
        self.model = model

    def __call__(self, case: Case) -> Answer:
        body: Any = case.body
        if isinstance(body, dict) and case.raw is None:
            body = {"model": self.model} | body
        content = json.dumps(body) if case.raw is None else case.raw
        if case.method == "GET":
            content = ""
        headers = {"content-type": "application/json"}
        start = time.monotonic()
        try:
            reply = self.client.request(
                case.method, case.route, content=content.encode(), headers=headers
            )
            text = reply.content.decode("utf-8", "replace")
            return Answer(reply.status_code, text, time.monotonic() - start)
        except httpx.HTTPError as error:
            what = f"{type(error).__name__}: {error}"
            return Answer(0, what, time.monotonic() - start)


@dataclass
class Wait:
    """An answer that another client waited too long for."""

    what: str
    start: float
    seconds: float


@dataclass
class Watcher:
    """Asks something small all the time, and notes when that takes long."""

    sender: Sender
    server: LimitedServer
    pause: float = 0.25
    waits: list[Wait] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=lambda: {"wait": 0.0, "health wait": 0.0})
    greedy: str | None = None
    top_rss: int = 0

    def __post_init__(self) -> None:
        self.is_over = threading.Event()
        probes = {
            "wait": (Case("plain", "/v1/completions", PLAIN), WAIT_SECONDS),
            "health wait": (Case("health", "/health", None, method="GET"), HEALTH_SECONDS),
        }
        self.threads = [
            threading.Thread(target=self._watch, args=(what, *probe), daemon=True)
            for what, probe in probes.items()
        ]
        self.threads.append(threading.Thread(target=self._weigh, daemon=True))

    def __enter__(self) -> Watcher:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        for thread in self.threads:
            thread.join(5)

    def _watch(self, what: str, case: Case, most: float) -> None:
        while not self.is_over.wait(self.pause):
            start = time.monotonic()
            answer = self.sender(case)
            self.longest[what] = max(self.longest[what], answer.seconds)
            if answer.seconds > most or answer.status != 200:
                self.waits.append(Wait(what, start, answer.seconds))

    def _weigh(self) -> None:
        while not self.is_over.wait(0.5):
            self.top_rss = max([self.top_rss, *self.server.rss().values()])
            self.greedy = self.greedy or self.server.end_greedy()
