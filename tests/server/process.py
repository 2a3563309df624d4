"""A real ``vllm serve`` process: started, waited for, stopped, and its log at hand."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from tests.server.forked import ForkedCommand

START_SECONDS = 240
STOP_SECONDS = 30
LOG_LINES = 60
PR_SET_PDEATHSIG = 1
BYTECODE = Path(__file__).resolve().parents[2] / "build" / "bytecode"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def end_with_parent() -> None:
    """Have the kernel stop this process when the tests are killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def environment() -> dict[str, str]:
    """This process's for one that starts vLLM as users do.

    Compiled models are taken from inductor's cache, as by ``make serve``. There is a place for
    bytecode where it has none: without it, a third of a start is compiling vLLM's modules.
    """
    told = os.environ | {"VLLM_USE_AOT_COMPILE": "0"}
    if sys.dont_write_bytecode:
        told |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(BYTECODE)}
    return told


class ServerProcess:
    """``vllm serve`` in a process group of its own."""

    def __init__(
        self,
        model: Path,
        log: Path,
        *args: str,
        is_forked: bool = True,
        fault: str = "",
        program: str = "vllm",
        port: int | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        self.model = model.name
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command: Sequence[str] = (
            "serve",
            str(model),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--served-model-name", self.model),
            *args,
        )
        self.children: list[psutil.Process] = []
        """Engine core, workers and whatever they started, once the server was asked to end."""
        self.is_asked_to_end = False
        self.process: subprocess.Popen[bytes] | ForkedCommand
        if is_forked:
            self.process = ForkedCommand(command, log, fault, variables)
            return
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                (str(Path(sys.executable).with_name(program)), *command),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment() | dict(variables or {}),
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def log_tail(self, num_lines: int = LOG_LINES) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-num_lines:])

    def failures(self) -> list[str]:
        """What went wrong, as its log tells it.

        Of the front end only what ends a request: at its end it may note that the engine has
        gone, with a traceback, which is vLLM's own way.
        """
        lines = self.log.read_text(errors="replace").splitlines()
        behind = [line for line in lines if "(APIServer" not in line]
        return [line for line in behind if "ERROR" in line or "Traceback" in line]

    def wait_until_healthy(self) -> None:
        """Return once requests are served.

        Raises:
            RuntimeError: it ended or took too long; with the end of its log.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self.is_healthy:
            if not self.is_alive or time.monotonic() > deadline:
                state = "is not ready" if self.is_alive else f"ended ({self.process.returncode})"
                self.kill()
                raise RuntimeError(f"the server {state}; its log ends with\n{self.log_tail()}")
            time.sleep(0.3)

    def ask_to_end(self) -> None:
        """Send SIGTERM, as an init system would, and do not wait."""
        if self.is_alive and not self.is_asked_to_end:
            self.children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(signal.SIGTERM)
            self.is_asked_to_end = True

    def terminate(self) -> int:
        """Ask it to end, and return its exit status."""
        self.ask_to_end()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            tail = self.log_tail()
            self.kill()
            raise RuntimeError(
                f"SIGTERM did not stop the server; its log ends with\n{tail}"
            ) from None

    def stop(self) -> None:
        """End it whatever its state; gently, so that it frees its shared memory."""
        if self.is_alive:
            with contextlib.suppress(RuntimeError):
                self.terminate()
        self.kill()

    def kill(self) -> None:
        """Leave nothing of its process group behind."""
        if self.group_is_alive:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()  # a forked one may not have had the time to make its group
        self.process.wait()

    @property
    def group_is_alive(self) -> bool:
        """Whether any of its processes, engine core and workers included, still runs."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


class StartedAhead:
    """Servers one after the other, each starting while the one before it is in use.

    Starting is mostly imports, on one core at a time. Two are up at most, if each is asked to
    end before the next is taken.
    """

    def __init__(self, names: Sequence[str], start: Callable[[str], ServerProcess]) -> None:
        self.left = list(names)
        self.start = start
        self.started: dict[str, ServerProcess] = {}

    def take(self, name: str) -> ServerProcess:
        """The server of that name, at your service."""
        self.left = [other for other in self.left if other != name]
        for each in (name, *self.left[:1]):
            if each not in self.started:
                self.started[each] = self.start(each)
        self.started[name].wait_until_healthy()
        return self.started[name]

    def close(self) -> None:
        """Leave nothing behind; vLLM does not heed SIGTERM while it starts."""
        for process in self.started.values():
            process.kill()
