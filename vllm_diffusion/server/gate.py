"""Middlewares of our models' servers: bodies are checked first, errors are put into shape last.

Both are plain ASGI. ``Gate`` stands behind vLLM's own middlewares (its API key), ``Envelope``
before them all, so that it also sees what they answer.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware

from vllm_diffusion.server.body import BodyError, check_body
from vllm_diffusion.server.errors import envelope

if TYPE_CHECKING:
    from fastapi import FastAPI

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


STREAM_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
"""Of a stream: a proxy would keep it back until it has a buffer full."""


class Gate:
    """Reads the body of a POST and refuses what ``check_body`` does."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        is_json = any(
            name == b"content-type" and value.lower().startswith(b"application/json")
            for name, value in scope.get("headers", ())
        )
        if scope["type"] != "http" or scope["method"] != "POST" or not is_json:
            await self.app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        if messages[-1]["type"] == "http.request":
            try:
                check_body(b"".join(message.get("body", b"") for message in messages))
            except BodyError as error:
                said = {"message": str(error), "param": error.param, "code": error.code}
                await _answer(send, 400, {"error": said})
                return
        messages.reverse()

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, send)


class Envelope:
    """Rewrites the body of a response with an error's status, where it is JSON.

    A stream gets the headers with which proxies pass it on as it comes.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        parts: list[bytes] = []

        async def rewrite(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_json_error(message):
                start = message
                return
            if start is None or message["type"] != "http.response.body":
                await send(_as_stream(message) if _is_stream(message) else message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            try:
                said: Any = json.loads(b"".join(parts))
            except ValueError:
                said = None
            body = envelope(start["status"], said, scope["method"], scope["path"])
            await _answer(send, start["status"], body, start["headers"])

        await self.app(scope, receive, rewrite)


def _is_json_error(start: Message) -> bool:
    kinds = [value for name, value in start["headers"] if name.lower() == b"content-type"]
    return start["status"] >= 400 and any(kind.startswith(b"application/json") for kind in kinds)


def _is_stream(message: Message) -> bool:
    if message["type"] != "http.response.start":
        return False
    kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
    return any(kind.startswith(b"text/event-stream") for kind in kinds)


def _as_stream(start: Message) -> Message:
    said = {name.lower() for name, _ in start["headers"]}
    added = [header for header in STREAM_HEADERS if header[0] not in said]
    return {**start, "headers": [*start["headers"], *added]}


async def _answer(send: Send, status: int, body: Any, headers: Any = ()) -> None:
    data = json.dumps(body, ensure_ascii=False).encode(errors="replace")
    replaced = (b"content-length", b"content-type")
    kept = [(name, value) for name, value in headers if name.lower() not in replaced]
    length = (b"content-length", str(len(data)).encode())
    kind = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": status, "headers": [*kept, length, kind]})
    await send({"type": "http.response.body", "body": data})


def guard(app: FastAPI) -> None:
    """Put both around an app that vLLM has made and that does not serve yet."""
    app.user_middleware.append(Middleware(Gate))
    # vLLM's start has built the stack once already. Starlette's own answer to a fault is its
    # outermost part, so that no middleware of the app sees it.
    app.middleware_stack = Envelope(app.build_middleware_stack())
