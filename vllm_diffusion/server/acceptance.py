"""A stream begins once its request is accepted; what is refused is an error response.

vLLM hands its requests to the engine when the first event is asked for, after the response's
headers have gone out, so that a refusal could only be an event. Here the first event is asked
for before: whichever comes first, it or the engine's acceptance, decides. Nothing waits for text.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from vllm_diffusion.server.errors import openai_error

if TYPE_CHECKING:
    from vllm_diffusion.request.parsed import ParsedRequest

DATA, ERROR = "data: ", 'data: {"error"'


class Acceptance:
    """Counts the prompts of one HTTP request that the engine has accepted."""

    def __init__(self, num_prompts: int = 1) -> None:
        self._left = num_prompts
        self.parsed: ParsedRequest | None = None
        """What the engine's requests ask for, all of them the same; known once one is taken."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def count(self) -> None:
        """One more is accepted."""
        self._left -= 1
        if self._left <= 0 and not self.done.done():
            self.done.set_result(None)


CURRENT: ContextVar[Acceptance | None] = ContextVar("acceptance", default=None)
"""Of the HTTP request that a task works for; tasks inherit it."""


def accepted() -> None:
    """Tell whoever waits that the engine has taken a request of this task's."""
    if (current := CURRENT.get()) is not None:
        current.count()


def taken(parsed: ParsedRequest | None) -> None:
    """Tell the handler of this task's request how it was read."""
    if (current := CURRENT.get()) is not None:
        current.parsed = parsed


def num_prompts(request: Any) -> int:
    """How many requests to the engine an HTTP request becomes."""
    prompt = getattr(request, "prompt", None)
    is_several = isinstance(prompt, list) and prompt and isinstance(prompt[0], (str, list))
    return len(prompt) if is_several else 1  # type: ignore[arg-type]


def error_of(event: Any) -> ErrorResponse | None:
    """The error that an event of vLLM's says, if it does."""
    if not isinstance(event, str) or not event.startswith(ERROR):
        return None
    try:
        return ErrorResponse.model_validate(json.loads(event[len(DATA) :]))
    except ValidationError:
        return None  # has its shape already


async def begin(
    events: AsyncGenerator[Any, None],
    acceptance: Acceptance,
    on_error: Callable[[Exception, int], Any] | None = None,
) -> AsyncGenerator[Any, None] | ErrorResponse:
    """The same stream once its request is accepted, or the error that it begins with.

    Args:
        events: of vLLM's handler, not yet asked for one.
        acceptance: counted by the engine's client in this context.
        on_error: makes an event of an exception that would break the stream off, after so many
            events; None lets it.

    Raises:
        Exception: what the stream raises before that.
    """
    held: list[Any] = []
    pending: asyncio.Task[Any] | None = None
    try:
        while not acceptance.done.done():
            pending = asyncio.create_task(_next(events))
            await asyncio.wait((pending, acceptance.done), return_when=asyncio.FIRST_COMPLETED)
            if not pending.done():
                break
            try:
                event = pending.result()
            except StopAsyncIteration:
                break
            pending = None
            if (error := error_of(event)) is not None:
                await events.aclose()
                return error
            held.append(event)
            if isinstance(event, str):
                break  # text: of chats and completions there is none before
    except BaseException:
        await _give_up(events, pending)
        raise
    return _go_on(events, held, pending, on_error)


async def _next(events: AsyncGenerator[Any, None]) -> Any:
    return await anext(events)


async def _give_up(events: AsyncGenerator[Any, None], pending: asyncio.Task[Any] | None) -> None:
    """End what is under way, so that vLLM aborts its requests."""
    if pending is not None:
        pending.cancel()
        await asyncio.wait((pending,))
    with suppress(RuntimeError):
        await events.aclose()


async def _go_on(
    events: AsyncGenerator[Any, None],
    held: list[Any],
    pending: asyncio.Task[Any] | None,
    on_error: Callable[[Exception, int], Any] | None,
) -> AsyncGenerator[Any, None]:
    num_sent = 0
    try:
        for event in held:
            num_sent += 1
            yield _shaped(event)
        if pending is not None:
            event, pending = await pending, None
            num_sent += 1
            yield _shaped(event)
        async for event in events:
            num_sent += 1
            yield _shaped(event)
    except StopAsyncIteration:
        return
    except Exception as error:
        if on_error is None:
            raise
        yield on_error(error, num_sent)
    finally:
        await _give_up(events, pending)


def _shaped(event: Any) -> Any:
    """An error event with OpenAI's codes, everything else as it is."""
    error = error_of(event)
    if error is None:
        return event
    said = openai_error(error.error.code, error.error.message, error.error.param)
    return f"{DATA}{json.dumps({'error': said}, ensure_ascii=False)}\n\n"


async def raising(events: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """The same stream, whose error events are exceptions, for who translates the others."""
    async with aclosing(events):
        async for event in events:
            if event.startswith(ERROR):
                raise RuntimeError(json.loads(event[len(DATA) :])["error"]["message"])
            yield event
