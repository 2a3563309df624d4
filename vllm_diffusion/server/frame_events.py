"""Frames as events of a stream, beside the chunks that it has without them.

    "stream": true, "stream_options": {"diffusion_frames": true}     every step's
    "stream": true, "stream_options": {"diffusion_frames": 10}       at most ten a second

An event is a chunk without choices, as the one with the usage is, so clients that do not know it
pass over it; the frame stands under ``diffusion_frame``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from vllm_diffusion.server import drafts, early
from vllm_diffusion.server.refusal import refuse
from vllm_diffusion.server.sse import event_of
from vllm_diffusion.server.watching import Channel

if TYPE_CHECKING:
    from vllm_diffusion.frames import Frame
    from vllm_diffusion.request.parsed import ParsedRequest

FIELD = "diffusion_frames"
NAME = f"stream_options.{FIELD}"
MOST_A_SECOND = 1000


def channel_of(request: Any, *, has_reasoning_parser: bool = False) -> Channel | None:
    """What a request's frames go through; None where it asks for none.

    Raises:
        VLLMValidationError: they cannot be had in this form.
    """
    options = getattr(request, "stream_options", None)
    asked = getattr(options, FIELD, None)
    if drafts.are_asked(request):
        return Channel(None)
    if early.is_asked(request) and not asked:
        is_possible = early.can_be_early(request, has_reasoning_parser=has_reasoning_parser)
        return Channel(None) if is_possible else None
    if asked is None or asked is False:
        return None
    if asked is not True and not 0 < asked <= MOST_A_SECOND:
        remedy = f"it is true, or a number of frames a second, above 0 and up to {MOST_A_SECOND}"
        raise refuse(NAME, asked, remedy, "is not valid")
    prompt = getattr(request, "prompt", None)
    is_several = isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)
    if (getattr(request, "n", None) or 1) > 1 or is_several:
        remedy = "frames are those of one text; ask for one prompt with n=1"
        raise refuse(NAME, asked, remedy)
    return Channel(None if asked is True else float(asked))


def speller(tokenizer: Any) -> Callable[[int], str]:
    """The text of a token by itself; bytes that are no character are shown as such."""

    @lru_cache(maxsize=1 << 16)
    def spell(token: int) -> str:
        text: str = tokenizer.decode([token])
        return text

    return spell


def frame_event(
    frame: Frame,
    num_dropped: int,
    channel: Channel,
    head: dict[str, Any],
    spell: Callable[[int], str],
) -> str:
    """One frame as a line of the stream."""
    chunk = {
        "id": channel.request_id,
        **head,
        "choices": [],
        "diffusion_frame": frame.told(spell, num_dropped),
    }
    return event_of(chunk)


def with_frames(
    events: AsyncGenerator[Any, None],
    channel: Channel,
    request: Any,
    tokenizer: Any,
    parsed: Callable[[], ParsedRequest | None] = lambda: None,
) -> AsyncGenerator[Any, None]:
    """The same stream with frames as they come, or with the drafts that are made of them.

    Args:
        events: of a chat or a completion.
        channel: of its request; closed at the end.
        request: the client's.
        tokenizer: of the server.
        parsed: returns the request as it was read.
    """
    if early.is_asked(request) and not getattr(request.stream_options, FIELD, None):
        sooner = early.Early(channel, request, tokenizer, parsed)
        return interleaved(events, channel, sooner.of_frame, sooner.of_event)
    if drafts.are_asked(request):
        made = drafts.Drafts(channel, request.model, tokenizer)
        return interleaved(events, channel, made.of_frame, made.of_event)
    spell = speller(tokenizer)
    is_chat = hasattr(request, "messages")
    head = {
        "object": "chat.completion.chunk" if is_chat else "text_completion",
        "created": int(time.time()),
        "model": request.model,
    }

    def of_frame(frame: Frame, num_dropped: int) -> str:
        return frame_event(frame, num_dropped, channel, head, spell)

    return interleaved(events, channel, of_frame, lambda event: event)


async def interleaved(
    events: AsyncGenerator[Any, None],
    channel: Channel,
    of_frame: Callable[[Frame, int], str | None],
    of_event: Callable[[Any], Any],
) -> AsyncGenerator[Any, None]:
    """A stream and its frames; each frame is there before the text that it has led to."""
    following = asyncio.ensure_future(anext(events, None))
    arrival = asyncio.ensure_future(channel.wait())
    try:
        while True:
            await asyncio.wait((following, arrival), return_when=asyncio.FIRST_COMPLETED)
            for frame, num_dropped in channel.take():
                made = of_frame(frame, num_dropped)
                if made is not None:
                    yield made
            if arrival.done():
                arrival = asyncio.ensure_future(channel.wait())
            if following.done():
                event = following.result()
                if event is None:
                    return
                yield of_event(event)
                following = asyncio.ensure_future(anext(events, None))
    finally:
        channel.close()
        arrival.cancel()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await events.aclose()
