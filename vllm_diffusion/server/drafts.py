"""Drafts: a chat's stream whose every chunk has the whole text so far, as Mercury's ``diffusing``.

    "stream": true, "diffusing": true

A client replaces what it shows with ``delta.content``, where it appends it without the field.
Drafts come of the frames of denoising steps; an open position shows the model's best guess. The
last chunk with content has the text of the same request without the field.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from vllm_diffusion.server.refusal import refuse
from vllm_diffusion.server.sse import chunk_of, event_of

if TYPE_CHECKING:
    from vllm_diffusion.frames import Frame
    from vllm_diffusion.server.watching import Channel

FIELD = "diffusing"


def are_asked(request: Any) -> bool:
    """Whether a request asks for drafts; only chats have the field."""
    said = getattr(request, "model_extra", None) or {}
    return said.get(FIELD) is True and hasattr(request, "messages")


def check(request: Any, *, has_reasoning_parser: bool) -> None:
    """Refuse drafts that cannot be had.

    Raises:
        VLLMValidationError: with the remedy.
    """
    asked = (getattr(request, "model_extra", None) or {}).get(FIELD)
    if asked is None or asked is False:
        return
    remedy = None
    if asked is not True:
        raise refuse(FIELD, asked, "it is true or false", "is not valid")
    if not request.stream:
        remedy = "drafts are chunks of a stream; say stream=true or leave it out"
    elif (request.n or 1) > 1:
        remedy = "drafts are those of one text; ask for n=1"
    elif request.tools and request.tool_choice != "none":
        remedy = "a draft of a call is no call; leave tools or drafts out"
    elif request.logprobs:
        remedy = "a draft has no log-probabilities; leave one of the two out"
    elif request.echo:
        remedy = "a draft has no echo; leave one of the two out"
    elif has_reasoning_parser:
        remedy = "this server tells thoughts and answer apart, which a draft cannot; leave it out"
    elif (request.model_extra or {}).get("realtime"):
        remedy = "drafts come with every step already; leave realtime out"
    elif getattr(request.stream_options, "diffusion_frames", None):
        remedy = "frames tell more than drafts; leave one of the two out"
    if remedy is not None:
        raise refuse(FIELD, asked, remedy)


class Drafts:
    """The chunks of one stream, rewritten.

    Args:
        channel: of the request, which knows its id.
        model: as the client has named it.
        tokenizer: of the server.
    """

    def __init__(self, channel: Channel, model: str | None, tokenizer: Any) -> None:
        self.channel = channel
        self.tokenizer = tokenizer
        self.ends = frozenset(tokenizer.all_special_ids)
        self.blocks: dict[int, str] = {}
        """Text of the blocks that are finished, by where they start."""
        self.text = ""
        """What the stream without drafts has brought."""
        self.shown = ""
        self.head = {
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }

    def of_frame(self, frame: Frame, num_dropped: int) -> str | None:
        """The chunk of a step; None where the text looks as before."""
        before = "".join(self.blocks[at] for at in sorted(self.blocks) if at < frame.start)
        block = self._text_of(frame.tokens)
        if frame.is_final:
            self.blocks[frame.start] = block
        if before + block == self.shown:
            return None
        self.shown = before + block
        choice = {"index": 0, "delta": {"content": self.shown}, "finish_reason": None}
        return event_of({"id": self.channel.request_id, **self.head, "choices": [choice]})

    def of_event(self, event: str) -> str:
        """A chunk of the stream without drafts, with the whole text in place of what is new."""
        chunk = chunk_of(event)
        if chunk is None:
            return event
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            self.text += delta.get("content") or ""
            is_last = choice.get("finish_reason") is not None
            # Drafts may be ahead of the text that they became; only the last chunk takes back.
            if is_last or len(self.text) >= len(self.shown):
                self.shown = self.text
            if self.shown and ("content" in delta or is_last):
                choice["delta"] = delta | {"content": self.shown}
        return event_of(chunk)

    def _text_of(self, tokens: list[int]) -> str:
        """Up to where the text ends, if it does."""
        end = next((at for at, token in enumerate(tokens) if token in self.ends), len(tokens))
        text: str = self.tokenizer.decode(tokens[:end])
        return text
