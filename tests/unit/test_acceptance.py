"""When a stream begins: with its acceptance or its first event, and not with what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the errors are vLLM's")

from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from vllm_diffusion.server.acceptance import (
    CURRENT,
    Acceptance,
    accepted,
    begin,
    num_prompts,
    raising,
)

ERROR = {"error": {"message": "no", "type": "BadRequestError", "param": "a", "code": 400}}
EVENT = f"data: {json.dumps(ERROR)}\n\n"


class Engine:
    """Stands for vLLM's handler: its events come when the test says, and it knows its end."""

    def __init__(self, *events: Any, accepts: int = 0, fails: Exception | None = None) -> None:
        self.go = asyncio.Event()
        self.is_closed = False
        self.events = self._events(events, accepts, fails)

    async def _events(
        self, events: Any, accepts: int, fails: Exception | None
    ) -> AsyncGenerator[Any, None]:
        try:
            for _ in range(accepts):
                accepted()
            if accepts:
                await self.go.wait()
            for event in events:
                yield event
            if fails is not None:
                raise fails
        finally:
            self.is_closed = True

    async def begin(self, prompts: int = 1, **options: Any) -> Any:
        acceptance = Acceptance(prompts)
        CURRENT.set(acceptance)
        return await begin(self.events, acceptance, **options)


async def all_of(stream: Any) -> list[Any]:
    return [event async for event in stream]


def test_what_begins_with_an_error_is_an_error() -> None:
    async def run() -> None:
        engine = Engine(EVENT, "data: [DONE]\n\n")
        made = await engine.begin()
        assert isinstance(made, ErrorResponse)
        assert made.error.message == "no"
        assert engine.is_closed

    asyncio.run(run())


def test_what_is_raised_before_acceptance_is_raised() -> None:
    async def run() -> None:
        engine = Engine({"type": "created"}, fails=ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            await engine.begin()
        assert engine.is_closed

    asyncio.run(run())


def test_an_accepted_stream_begins_before_its_text() -> None:
    async def run() -> None:
        engine = Engine("a", "b", accepts=2)
        stream = await asyncio.wait_for(engine.begin(prompts=2), 5)
        engine.go.set()
        assert await all_of(stream) == ["a", "b"]
        assert engine.is_closed

    asyncio.run(run())


def test_all_prompts_have_to_be_accepted() -> None:
    async def run() -> None:
        engine = Engine("a", accepts=1)
        waiting = asyncio.create_task(engine.begin(prompts=2))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        engine.go.set()
        assert await all_of(await waiting) == ["a"]

    asyncio.run(run())


def test_events_before_acceptance_are_held_and_sent() -> None:
    async def run() -> None:
        made = await Engine(*[{"n": n} for n in range(3)]).begin()
        assert await all_of(made) == [{"n": 0}, {"n": 1}, {"n": 2}]

    asyncio.run(run())


def test_errors_behind_acceptance_stay_events() -> None:
    async def run() -> None:
        engine = Engine("a", EVENT, accepts=1)
        stream = await engine.begin()
        engine.go.set()
        first, error = await all_of(stream)
        assert first == "a"
        assert json.loads(error[6:])["error"]["code"] == "invalid_value"
        broken = Engine("a", accepts=1, fails=ValueError("no"))
        stream = await broken.begin(on_error=lambda error, sent: (str(error), sent))
        broken.go.set()
        assert await all_of(stream) == ["a", ("no", 1)]

    asyncio.run(run())


@pytest.mark.parametrize("is_accepted", [False, True])
def test_who_leaves_ends_what_is_under_way(is_accepted: bool) -> None:
    async def run() -> None:
        engine = Engine("a", accepts=1)
        waiting = asyncio.create_task(engine.begin(prompts=1 if is_accepted else 2))
        await asyncio.sleep(0.01)
        if is_accepted:
            reading = asyncio.create_task(all_of(await waiting))
            await asyncio.sleep(0.01)
            waiting = reading
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert engine.is_closed

    asyncio.run(run())


def test_error_events_become_exceptions_for_who_translates() -> None:
    async def run() -> None:
        with pytest.raises(RuntimeError, match="no"):
            await all_of(raising(Engine("a", EVENT).events))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("prompt", "number"), [("a", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], [2], [3]], 3), ([], 1)]
)
def test_prompts_are_counted(prompt: Any, number: int) -> None:
    assert num_prompts(SimpleNamespace(prompt=prompt)) == number
    assert num_prompts(SimpleNamespace()) == 1
