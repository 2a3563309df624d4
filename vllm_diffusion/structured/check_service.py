"""Finished texts checked off everybody's path: a process for what may take long or much memory.

It is another one than those that compile: a text that is finished does not wait for a schema.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor

from vllm_diffusion.structured.compile_process import Verdict
from vllm_diffusion.structured.constraint import Constraint
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.service import _Process

logger = logging.getLogger(f"vllm.{__name__}")


class _CheckProcess(_Process):
    def __init__(self, limits: Limits) -> None:
        super().__init__(None, limits)

    def start(self) -> None:
        """Before there is something to check."""
        self._started()

    def check(self, constraint: Constraint, text: str) -> Verdict:
        """Check, or end the process that does."""
        seconds = self.limits.check_seconds
        try:
            connection = self._started()
            connection.send((constraint, text))
            if not connection.poll(seconds):
                self.end()
                return "unchecked", f"it takes more than {seconds:g} s"
            verdict: Verdict = connection.recv()
        except (EOFError, OSError, RuntimeError) as error:
            self.end()
            return "unchecked", f"the process that checks it has ended: {error!s:.200}"
        return verdict


class CheckService:
    """What a front end asks for checks.

    Args:
        limits: of one text.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="check")
        self._process = _CheckProcess(limits)
        self._start: Future[None] | None = None

    def start(self) -> Future[None]:
        """Start the process, if that has not been done; does not wait for it."""
        if self._start is None:
            self._start = self._executor.submit(self._process.start)
        return self._start

    def submit(self, constraint: Constraint, text: str) -> Future[Verdict]:
        """Have a text checked; the future has no exception of the text's."""
        return self._executor.submit(self._process.check, constraint, text)

    def close(self) -> None:
        """End the process."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._process.end()
