"""How a server ends: what its clients are told, and its exit code.

Asked to end (SIGTERM, SIGINT): requests that run may finish within ``--shutdown-timeout``, which is
0 unless the user says otherwise. What is left then gets an error, a stream as its last event, and
new requests get a 503; the exit code is 0. Its engine has died: the exit code is 1.
"""

from __future__ import annotations

import asyncio
import threading
from http import HTTPStatus
from typing import Any, NoReturn

from vllm.exceptions import GracefulHTTPError
from vllm.logger import init_logger

logger = init_logger(f"vllm.{__name__}")

UNREAD_SECONDS = 5
"""How long a server that ends waits for clients that do not read their answers."""
MESSAGE = "The server is shutting down; send the request again later or to another one."


def shutting_down() -> GracefulHTTPError:
    """A 503, which clients and load balancers take as a reason to try again."""
    return GracefulHTTPError(MESSAGE, HTTPStatus.SERVICE_UNAVAILABLE)


class Ending:
    """Takes the place of one engine client's ``shutdown``, which the API server always calls."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.shutdown = engine.shutdown
        self.loop = asyncio.get_running_loop()
        self.is_over = False
        self.is_dead = False
        """Whether the engine had gone before anybody asked."""

    def install(self) -> None:
        self.engine.shutdown = self

    def __call__(self, timeout: float | None = None) -> None:
        if not self.is_over:
            self.is_over = True
            self.is_dead = self.engine.errored
            self.engine.check_admission = self._refuse
            if not timeout and not self.is_dead:
                # Now, since what the engine says from here on may not be read any more.
                self._fail_requests()
        self.shutdown(timeout)
        self._fail_requests()
        # The signal's handler calls from another thread, where an exit code would be lost.
        if self.is_dead and threading.current_thread() is threading.main_thread():
            self.is_dead = False
            logger.critical("The engine has died, so this server ends with exit code 1.")
            raise SystemExit(1)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise shutting_down()

    def _fail_requests(self) -> None:
        if not self.loop.is_closed():
            failed = self.engine.output_processor.propagate_error
            self.loop.call_soon_threadsafe(failed, shutting_down())
