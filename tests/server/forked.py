"""``vllm serve`` without its imports, which are most of a start.

It is forked from a process without threads that has imported vLLM, and its engine core and worker
are forked from it. From there on it is the command, with the same arguments.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.forking import fork_server


class ForkedCommand:
    """The part of ``subprocess.Popen`` that tests use."""

    def __init__(
        self,
        args: Sequence[str],
        log: Path,
        fault: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.process = fork_server().Process(
            target=run, args=(list(args), str(log), fault, dict(variables or {}))
        )
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("vllm serve", timeout or 0)
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()


def run(args: list[str], log: str, fault: str, variables: dict[str, str]) -> None:
    """In the forked process: be the command, with a fault of this name."""
    from tests.server.process import end_with_parent

    os.environ.update(variables)
    os.setsid()
    end_with_parent()
    write_to(log)
    run_command(args, fault)


def write_to(log: str) -> None:
    """Have all output of this process in a file, and no input."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)


def fork_engines() -> None:
    """Have vLLM fork from this process what it would spawn; the CPU platform insists on that."""
    from vllm.v1.engine import coordinator, utils
    from vllm.v1.executor import multiproc_executor

    context = multiprocessing.get_context("fork")
    for module in (coordinator, utils, multiproc_executor):
        module.get_mp_context = lambda: context  # type: ignore[attr-defined]
    # A child's signals are not this process's.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


def run_command(args: list[str], fault: str = "") -> None:
    """Be the command, whose own processes are forked from this one."""
    from vllm.entrypoints.cli.main import main
    from vllm.entrypoints.launchers import launcher

    from tests.server import faults

    fork_engines()
    # They hold the server's port as well, of which vLLM tells at its end, if they live so long.
    launcher.find_process_using_port = lambda port: None
    sys.argv = ["vllm", *args]
    if fault:
        faults.FAULTS[fault]()
    try:
        main()
    finally:
        atexit._run_exitfuncs()
