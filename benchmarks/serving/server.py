"""A vLLM server for the length of a ``with`` block."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

HOST = "127.0.0.1"
LOG_TAIL_LINES = 30
STOP_SECONDS = 20.0


class ServerError(RuntimeError):
    """The server cannot be started, or failed; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    name: str
    """What it calls its model."""
    port: int
    log: Path
    process_group: int = 0

    def pause(self) -> None:
        """Stop all of its processes, so that they take no time from others."""
        os.killpg(self.process_group, signal.SIGSTOP)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run for the length of a ``with`` block."""
        os.killpg(self.process_group, signal.SIGCONT)
        try:
            yield
        finally:
            self.pause()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def log_tail(self) -> str:
        """The last lines that the server wrote."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"--- end of {self.log} ---", *lines, "---"])


def choose_port(port: int) -> int:
    """``port`` if it is free, any free one for 0.

    Raises:
        ServerError: the port is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ServerError(
                f"--port {port} is not to be had: {error.strerror}. Stop what uses it, "
                "or leave the option out for any free port."
            ) from error
        chosen: int = probe.getsockname()[1]
        return chosen


def check_model(folder: Path) -> None:
    """Refuse a folder that holds no model.

    Raises:
        ServerError: with what is missing.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ServerError(f"{folder} is not a model folder: it has no {name}.")


def vllm_command() -> str:
    """The ``vllm`` command of this Python's environment.

    Raises:
        ServerError: it is not installed.
    """
    path = Path(sys.executable).with_name("vllm")
    if not path.is_file():
        raise ServerError("there is no vllm beside this Python: run `make setup`, use .venv.")
    return str(path)


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise ServerError(
                f"the server of {server.name} ended with status {process.returncode} while "
                f"starting.\n{server.log_tail()}"
            )
        try:
            if httpx.get(f"{server.url}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.2)
    raise ServerError(
        f"the server of {server.name} was not ready after {seconds:.0f} s.\n{server.log_tail()}"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and every process that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)  # a paused one would not hear of it
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):  # if all of them have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def serve(
    model: Path,
    *,
    flags: Sequence[str],
    environment: dict[str, str],
    port: int,
    log_folder: Path,
    start_seconds: float,
) -> Iterator[Server]:
    """Start ``vllm serve``, wait until it answers, and stop it whatever happens.

    Args:
        model: the model's folder; its last part is the served name.
        flags: options of ``vllm serve`` beside host, port and name.
        environment: variables on top of this process's own.
        port: 0 for any free one.
        log_folder: where the server's log goes.
        start_seconds: how long it may take to start.

    Raises:
        ServerError: the folder, the port or the server is at fault.
    """
    check_model(model)
    command = vllm_command()
    port = choose_port(port)
    log_folder.mkdir(parents=True, exist_ok=True)
    path = log_folder / f"{model.name}.log"
    arguments = [
        *(command, "serve", str(model), "--host", HOST, "--port", str(port)),
        *("--served-model-name", model.name, *flags),
    ]
    with path.open("wb") as log:
        process = subprocess.Popen(
            arguments,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | environment,
            start_new_session=True,
        )
    server = Server(model.name, port, path, process.pid)
    try:
        _wait_until_ready(server, process, start_seconds)
        yield server
    finally:
        _stop(process)
