"""Frames of watched requests, between the engine's outputs and whoever has asked for them.

Nobody waits for a watcher: its channel holds the latest frames, and drops and counts the others.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vllm_diffusion.frames import KEY, Frame

if TYPE_CHECKING:
    from vllm.v1.engine import EngineCoreOutput

    from vllm_diffusion.request.parsed import ParsedRequest

MOST_HELD = 256
"""Frames that a channel holds; one has a few hundred bytes for each position of a block."""

_NUMBERS = itertools.count(1)
_OPEN: dict[int, Channel] = {}


class Channel:
    """The frames of one request.

    Args:
        rate: frames a second at the most; a block's last one always comes. None for all.
        most: frames that are held.
    """

    def __init__(self, rate: float | None = None, most: int = MOST_HELD) -> None:
        self.number = next(_NUMBERS)
        self.interval = 1 / rate if rate else 0.0
        self.held: deque[tuple[Frame, int]] = deque()
        """With how many were dropped since the one before."""
        self.most = most
        self.num_dropped = 0
        """Since the last one that was taken in."""
        self.request_id = ""
        """The client's, known with the first frame."""
        self._arrived = asyncio.Event()
        self._last = float("-inf")
        _OPEN[self.number] = self

    def close(self) -> None:
        """Nothing comes any more."""
        _OPEN.pop(self.number, None)

    def put(self, frame: Frame) -> None:
        """Take a frame in, or drop it."""
        now = time.monotonic()
        if not frame.is_final and now - self._last < self.interval:
            self.num_dropped += 1
            return
        self._last = now
        if len(self.held) >= self.most:
            _, num_dropped = self.held.popleft()
            # The next one tells what is missing in front of it.
            if self.held:
                first, num_before = self.held.popleft()
                self.held.appendleft((first, num_before + num_dropped + 1))
            else:
                self.num_dropped += num_dropped + 1
        self.held.append((frame, self.num_dropped))
        self.num_dropped = 0
        self._arrived.set()

    def take(self) -> list[tuple[Frame, int]]:
        """What has come since the last call; each with how many were dropped before it."""
        taken = [*self.held]
        self.held.clear()
        self._arrived.clear()
        return taken

    async def wait(self) -> None:
        """Until there is something to take."""
        await self._arrived.wait()


def close(channel: Channel | None) -> None:
    """Close a channel, where there is one."""
    if channel is not None:
        channel.close()


WATCHING: ContextVar[Channel | None] = ContextVar("watching", default=None)
"""Of the request that a task works for; tasks inherit it."""


def watched(parsed: ParsedRequest) -> ParsedRequest:
    """The request, watched where the task that works for it has opened a channel."""
    channel = WATCHING.get()
    return parsed if channel is None else replace(parsed, watcher=channel.number)


def is_frame(output: EngineCoreOutput, request_id: str | None) -> bool:
    """Whether an output is a frame; then it has been delivered, to whoever is still there.

    Args:
        output: of the engine core.
        request_id: the client's own; None where the request is gone.
    """
    params: dict[str, Any] | None = output.kv_transfer_params
    if params is None or KEY not in params:
        return False
    number, packed = params[KEY]
    channel = _OPEN.get(number)
    if channel is not None:
        channel.request_id = request_id or channel.request_id
        channel.put(Frame.unpack(packed))
    return True
