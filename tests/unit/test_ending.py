"""How a server ends: who is told what, in which order, and the exit code."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the errors are vLLM's")

from vllm.exceptions import GracefulHTTPError

from vllm_diffusion.server.ending import Ending


class Engine:
    """Writes down what happens to it."""

    def __init__(self, errored: bool) -> None:
        self.errored = errored
        self.events: list[Any] = []
        self.output_processor = SimpleNamespace(propagate_error=self.events.append)

    def check_admission(self, n: int = 1) -> None:
        self.events.append("admitted")

    def shutdown(self, timeout: float | None = None) -> None:
        self.events.append(("stopped", timeout))
        self.errored = True


async def ended_by_signal(engine: Engine, timeout: float) -> None:
    """The order of vLLM's API server: from a thread, and once more when its client is closed."""
    Ending(engine).install()
    engine.check_admission()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, lambda: engine.shutdown(timeout=timeout))
    await asyncio.sleep(0)
    with pytest.raises(GracefulHTTPError, match="is shutting down") as caught:
        engine.check_admission()
    assert caught.value.http_status == 503
    engine.shutdown(timeout=timeout)


@pytest.mark.parametrize("timeout", [0, 30])
def test_requests_are_told_when_the_server_is_asked_to_end(timeout: float) -> None:
    """At once; with a time to finish in, those that have not by then."""
    engine = Engine(errored=False)
    asyncio.run(ended_by_signal(engine, timeout))
    is_error = [isinstance(event, GracefulHTTPError) for event in engine.events]
    assert any(is_error)
    assert engine.events[0] == "admitted"
    assert ("stopped", timeout) in engine.events
    if timeout:
        assert is_error.index(True) > engine.events.index(("stopped", timeout))


def test_without_a_time_to_finish_in_requests_are_told_first() -> None:
    """What the engine says once it is stopped may not be read any more."""
    calls: list[str] = []

    async def end() -> None:
        engine = Engine(errored=False)
        ending = Ending(engine)
        ending.loop = SimpleNamespace(
            is_closed=lambda: False, call_soon_threadsafe=lambda *_: calls.append("failed")
        )
        ending.shutdown = lambda timeout: calls.append("stopped")
        ending(timeout=0)

    asyncio.run(end())
    assert calls == ["failed", "stopped", "failed"]


def test_the_death_of_the_engine_is_an_exit_code() -> None:
    """Also where the server was asked to end after it; only where the code is not lost."""

    async def end(is_asked: bool) -> None:
        engine = Engine(errored=True)
        Ending(engine).install()
        if is_asked:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, lambda: engine.shutdown(timeout=0))
        with pytest.raises(SystemExit) as caught:
            engine.shutdown(timeout=0)
        assert caught.value.code == 1
        engine.shutdown()  # the client's finalizer
        assert engine.events[0] == ("stopped", 0)

    asyncio.run(end(is_asked=False))
    asyncio.run(end(is_asked=True))
