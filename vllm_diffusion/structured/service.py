"""Compilation off everybody's path: processes that compile, and what they have compiled.

A front end has one service. It never waits on its event loop; a process that takes too long or
too much memory is ended, and its request is refused.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe

from vllm_diffusion.structured.compiled import Compiled
from vllm_diffusion.structured.constraint import BoundError, Constraint, RefusedError
from vllm_diffusion.structured.limits import Limits, raise_by
from vllm_diffusion.structured.vocabulary import TokenizerSpec

logger = logging.getLogger(f"vllm.{__name__}")

PROCESSES = 2
"""One that is held up does not hold up all."""
START_SECONDS = 120.0
REFUSAL_BYTES = 1 << 10
MODULE = "vllm_diffusion.structured.compile_process"


class _Process:
    """One compiling process, started when first needed and after each that was ended."""

    def __init__(self, spec: TokenizerSpec | None, limits: Limits) -> None:
        self.spec, self.limits = spec, limits
        self.child: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None

    def _started(self) -> Connection:
        if self.child is not None and self.child.poll() is None and self.connection is not None:
            return self.connection
        self.end()
        ours, theirs = Pipe()
        self.child = subprocess.Popen(
            [sys.executable, "-m", MODULE, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        try:
            ours.send((self.spec, self.limits))
            is_ready = ours.poll(START_SECONDS) and ours.recv() == "ready"
        except (EOFError, OSError):
            is_ready = False
        if not is_ready:
            ours.close()
            self.end()
            raise RuntimeError("the process that compiles structured output did not start")
        self.connection = ours
        return ours

    def compile(self, constraint: Constraint) -> Compiled:
        """Compile, or end the process that does.

        Raises:
            RefusedError: what is not served.
            BoundError: a bound of time or memory.
            RuntimeError: it cannot be started.
        """
        seconds = self.limits.seconds
        connection = self._started()
        try:
            connection.send(constraint)
            if not connection.poll(seconds):
                self.end()
                raise BoundError(
                    f"its compilation takes more than {seconds:g} s; {raise_by('seconds')}"
                )
            status, value = connection.recv()
        except (EOFError, OSError) as error:
            self.end()
            raise BoundError(
                "its compilation ended the process that does it: it nests too deep, or needs more "
                f"than {self.limits.memory_bytes >> 20} MiB"
            ) from error
        if status == "compiled":
            return Compiled.unpack(value)
        if status == "refused":
            raise RefusedError(value)
        if status == "memory":
            self.end()
            raise BoundError(
                f"its compilation needs more than {self.limits.memory_bytes >> 20} MiB; "
                f"{raise_by('memory_bytes')}"
            )
        # A library's way to refuse, or a defect of ours: the log tells them apart.
        logger.error("A structured output could not be compiled: %s", value)
        raise RefusedError(f"it could not be compiled: {value}")

    def end(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        if self.child is not None:
            with contextlib.suppress(OSError):
                self.child.kill()
            self.child.wait()
        self.child = None


class CompileService:
    """What a front end asks for compiled constraints.

    Args:
        spec: of the tokenizer.
        limits: of one constraint.
    """

    def __init__(self, spec: TokenizerSpec, limits: Limits) -> None:
        self.spec, self.limits = spec, limits
        self._executor = ThreadPoolExecutor(PROCESSES, thread_name_prefix="compile")
        self._local = threading.local()
        self._processes: list[_Process] = []
        self._lock = threading.Lock()
        self._known: OrderedDict[Constraint, Compiled | str] = OrderedDict()
        self._under_way: dict[Constraint, Future[Compiled]] = {}
        self._bytes = 0

    def known(self, constraint: Constraint) -> Compiled | None:
        """What has been compiled already.

        Raises:
            RefusedError: it has been refused already.
        """
        with self._lock:
            found = self._known.get(constraint)
            if found is not None:
                self._known.move_to_end(constraint)
        if isinstance(found, str):
            raise RefusedError(found)
        return found

    def submit(self, constraint: Constraint) -> Future[Compiled]:
        """Compile it, once for all that ask meanwhile; the result may be an exception."""
        with self._lock:
            future = self._under_way.get(constraint)
            if future is None:
                future = self._under_way[constraint] = Future()
                self._executor.submit(self._compile, constraint, future)
        return future

    def compile(self, constraint: Constraint) -> Compiled:
        """As ``submit``, and wait: for callers without an event loop."""
        return self.known(constraint) or self.submit(constraint).result()

    def close(self) -> None:
        """End the processes."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.end()

    def _compile(self, constraint: Constraint, future: Future[Compiled]) -> None:
        try:
            found = self.known(constraint) or self._process().compile(constraint)
        except BoundError as error:
            outcome: Exception | None = error
        except RefusedError as error:
            self._keep(constraint, str(error))
            outcome = error
        except Exception as error:
            outcome = error
        else:
            self._keep(constraint, found)
            outcome = None
        with self._lock:
            self._under_way.pop(constraint, None)
        if outcome is not None:
            future.set_exception(outcome)
        else:
            future.set_result(found)

    def _process(self) -> _Process:
        process: _Process | None = getattr(self._local, "process", None)
        if process is None:
            process = self._local.process = _Process(self.spec, self.limits)
            self._processes.append(process)
        return process

    def _keep(self, constraint: Constraint, found: Compiled | str) -> None:
        with self._lock:
            if constraint in self._known:
                self._bytes -= _size(constraint, self._known.pop(constraint))
            self._known[constraint] = found
            self._bytes += _size(constraint, found)
            while self._bytes > self.limits.cache_bytes and len(self._known) > 1:
                self._bytes -= _size(*self._known.popitem(last=False))


def _size(constraint: Constraint, found: Compiled | str) -> int:
    return len(constraint.spec) + (REFUSAL_BYTES if isinstance(found, str) else found.num_bytes)
