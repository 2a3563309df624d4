"""``realtime``: text of a stream goes out before its block is finished, as far as it is settled.

    "stream": true, "realtime": true

A step settles positions anywhere in a block. Those in front of its first open position never change
any more, so their text can be told at once: the first word comes after one forward instead of all
of a block's. The whole text is that of the same request without the field.

Where settled text may still be cut or changed it waits for its block, as without the field: with
``stop`` strings, tools, log-probabilities, a reasoning parser, several answers, edits, and
self-speculation.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vllm_diffusion.frames.frame import State
from vllm_diffusion.server.refusal import refuse
from vllm_diffusion.server.sse import chunk_of, event_of

if TYPE_CHECKING:
    from vllm_diffusion.frames import Frame
    from vllm_diffusion.request.parsed import ParsedRequest
    from vllm_diffusion.server.watching import Channel

FIELD = "realtime"
UNFINISHED = "\ufffd"
"""What a tokenizer makes of bytes that are a part of a character."""


def is_asked(request: Any) -> bool:
    """Whether a chat's stream is to come early."""
    said = getattr(request, "model_extra", None) or {}
    return said.get(FIELD) is True and hasattr(request, "messages")


def check(request: Any) -> None:
    """Refuse what is no answer to the question.

    Raises:
        VLLMValidationError: with the remedy.
    """
    asked = (getattr(request, "model_extra", None) or {}).get(FIELD)
    if asked not in (None, False) and asked is not True:
        raise refuse(FIELD, asked, "it is true or false", "is not valid")
    if asked is True and not request.stream:
        remedy = "it is about when a stream's text comes; say stream=true or leave it out"
        raise refuse(FIELD, asked, remedy)


def can_be_early(request: Any, *, has_reasoning_parser: bool) -> bool:
    """Whether settled text is final as it stands."""
    has_tools = bool(request.tools) and request.tool_choice != "none"
    is_one = (request.n or 1) == 1
    is_cut = bool(request.stop) or request.logprobs or request.echo or has_reasoning_parser
    return is_one and not has_tools and not is_cut


def is_final(parsed: ParsedRequest | None) -> bool:
    """Whether nothing that is settled changes any more."""
    if parsed is None:
        return False
    return not parsed.decode.edits and parsed.decode.policy != "self_speculation"


class Early:
    """The chunks of one stream, with settled text in front of those that bring whole blocks.

    Args:
        channel: of the request, which knows its id.
        request: the client's.
        tokenizer: of the server.
        parsed: returns the request as it was read, once it was.
    """

    def __init__(
        self,
        channel: Channel,
        request: Any,
        tokenizer: Any,
        parsed: Callable[[], ParsedRequest | None],
    ) -> None:
        self.channel, self.tokenizer, self.parsed = channel, tokenizer, parsed
        self.ends = frozenset(tokenizer.all_special_ids) | frozenset(request.stop_token_ids or ())
        self.most = request.max_completion_tokens or request.max_tokens or sys.maxsize
        self.tokens: list[int] = []
        """Of the blocks that are finished."""
        self.sent = self.text = ""
        """What the client has, and what the stream without the field has brought."""
        self.head = {
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": request.model,
        }

    def of_frame(self, frame: Frame, num_dropped: int) -> str | None:
        """A chunk with what a step has settled behind all that is told; None where that is none."""
        if num_dropped or frame.start != len(self.tokens) or not is_final(self.parsed()):
            return None
        states = frame.states
        end = next((at for at, state in enumerate(states) if state == State.MASKED), len(states))
        settled = frame.tokens[: min(end, max(self.most - frame.start, 0))]
        stop = next((at for at, token in enumerate(settled) if token in self.ends), len(settled))
        if frame.is_final:
            self.tokens += frame.tokens
        told: str = self.tokenizer.decode([*self.tokens[: frame.start], *settled[:stop]])
        told = told.rstrip(UNFINISHED)
        if not told.startswith(self.sent) or len(told) == len(self.sent):
            return None
        new, self.sent = told[len(self.sent) :], told
        choice = {"index": 0, "delta": {"content": new}, "finish_reason": None}
        return event_of({"id": self.channel.request_id, **self.head, "choices": [choice]})

    def of_event(self, event: Any) -> Any:
        """A chunk of the stream without the field, less what was told before."""
        chunk = chunk_of(event)
        if chunk is None:
            return event
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if not delta.get("content"):
                continue
            self.text += delta["content"]
            # What was told is a beginning of the text, or the text has not got there yet.
            new = self.text[len(self.sent) :]
            self.sent += new
            choice["delta"] = delta | {"content": new}
        return event_of(chunk)
