"""A host of its own on this machine: network, hostname, mounts, shared memory, Ray's files.

It is a set of namespaces, kept by a process that does nothing else (``python -m
tests.cluster.keeper``). Hosts are joined by a veth pair, and nothing leaves the machine. What was
started in a host is found by its network namespace and ended by its id.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

ADDRESSES = {"head": "10.77.0.1", "other": "10.77.0.2"}
DEVICE = "eth0"
"""Of every host; its name is free, since each is alone in its namespace."""


class Host:
    """Namespaces with an address, until ``close``."""

    def __init__(self, name: str, address: str, peer: Host | None = None) -> None:
        self.name, self.address = name, address
        join = () if peer is None else (str(peer.keeper.pid), peer.address)
        self.keeper = subprocess.Popen(
            (sys.executable, "-m", "tests.cluster.keeper", name, address, *join),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.keeper.stdout is not None
        said = self.keeper.stdout.readline()
        if said.strip() != "ready":
            raise OSError(f"no namespaces for {name}: {said}{self.keeper.stdout.read()}".strip())
        self.namespace = namespace_of(self.keeper.pid)

    def command(self, *args: str) -> tuple[str, ...]:
        """What runs ``args`` in this host."""
        return (sys.executable, "-m", "tests.cluster.inside", str(self.keeper.pid), *args)

    def run(self, *args: str) -> str:
        """Run a short command to its end; its output."""
        return subprocess.run(
            self.command(*args), check=True, capture_output=True, text=True
        ).stdout

    def start(
        self, args: Sequence[str], log: Path, environment: dict[str, str], *, is_told: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a command; its id is that of the process started.

        Args:
            is_told: its input is a pipe, instead of nothing.
        """
        with log.open("wb") as output:
            return subprocess.Popen(
                self.command(*args),
                stdin=subprocess.PIPE if is_told else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                start_new_session=True,
            )

    def set_link(self, state: str) -> float:
        """Cut this host off (``down``), without a word to anyone who is connected; when."""
        return float(self.run(sys.executable, "-m", "tests.cluster.link", DEVICE, state))

    def processes(self) -> list[psutil.Process]:
        """All that run in this host, its keeper left out."""
        return [
            process
            for process in psutil.process_iter()
            if process.pid != self.keeper.pid and namespace_of(process.pid) == self.namespace
        ]

    def close(self, patience: float = 20.0) -> None:
        """End all that runs in it, then itself."""
        deadline = time.monotonic() + patience
        while (left := self.processes()) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=2)
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()
        self.keeper.wait(10)
        assert not left, f"{self.name}: {left} could not be ended"


def namespace_of(pid: int) -> str | None:
    """The network namespace of a process; None where it has gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two that see each other, at ``ADDRESSES``, and nobody else.

    Raises:
        OSError: this process may not make namespaces; it says why.
    """
    head = Host("head", ADDRESSES["head"])
    try:
        other = Host("other", ADDRESSES["other"], head)
        try:
            yield head, other
        finally:
            other.close()
    finally:
        head.close()
