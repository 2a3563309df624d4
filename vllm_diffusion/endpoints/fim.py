"""``POST /v1/fim/completions``: Mercury's and Mistral's route for the text between two passages.

{"prompt": "def a():\\n", "suffix": "\\n    return b"}          one hole
{"segments": ["a = ", null, "\\nb = ", null, "\\n"]}            several, filled from left to right
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from vllm_diffusion.server.account import FIELD, added
from vllm_diffusion.server.infill import as_stream
from vllm_diffusion.server.refusal import refuse, refused
from vllm_diffusion.server.request_models import Stops, TextRequest
from vllm_diffusion.server.sse import chunk_of, event_of

router = APIRouter()

DEFAULT_STOPS = ["\n\n", "\n \n"]
"""Mercury's: an answer ends at its first blank line, where the client names no other end."""
DEFAULT_MAX_TOKENS = 512
MOST_HOLES = 16


class FimRequest(TextRequest):
    """A completion with other defaults, and with segments."""

    segments: list[str | None] | None = None
    """Fixed passages, null where a hole is."""
    max_tokens: int | None = Field(default=DEFAULT_MAX_TOKENS, ge=1)
    stop: str | Stops | None = Field(default_factory=lambda: list(DEFAULT_STOPS))

    @classmethod
    def has_passages(cls, data: dict[str, Any]) -> bool:
        return super().has_passages(data) or data.get("segments") is not None

    def holes(self) -> list[int]:
        """Where the segments have holes.

        Raises:
            VLLMValidationError: they cannot be filled as they stand.
        """
        segments = self.segments or []
        holes = [number for number, segment in enumerate(segments) if segment is None]
        if not 1 <= len(holes) <= MOST_HOLES:
            raise refuse("segments", segments, f"1 to {MOST_HOLES} are null", "is not valid")
        if any(second == first + 1 for first, second in pairwise(holes)):
            raise refuse(
                "segments", segments, "two nulls are one hole; leave one out", "is not valid"
            )
        if self.prompt or self.suffix is not None:
            field = "prompt" if self.prompt else "suffix"
            raise refused(f"{field} does not go together with segments; leave one out", field)
        if (self.n or 1) > 1:
            raise refuse("n", self.n, "with segments there is one answer")
        return holes

    def plain(self, **changes: Any) -> FimRequest:
        """The same without what vLLM's model has not."""
        made = self.model_copy(update={"segments": None, **changes})
        made.__pydantic_fields_set__ = (self.model_fields_set | changes.keys()) - {"segments"}
        return made


async def _filled(request: FimRequest, raw_request: Request) -> Any:
    """The response for all holes, one after the other; each sees what stands before it."""
    handler = raw_request.app.state.openai_serving_completion
    if request.segments is None:
        return await handler.create_completion(request.plain(stream=False), raw_request)
    segments, holes, whole = list(request.segments), request.holes(), None
    fills: list[str] = []
    for hole in holes:
        # Behind the last passage a line ends.
        following = (segments[hole + 1 :] or [""])[0] or "\n"
        prefix = "".join(segment or "" for segment in segments[:hole])
        asked = request.plain(prompt=prefix, suffix=following, stream=False, stream_options=None)
        response = await handler.create_completion(asked, raw_request)
        if not hasattr(response, "choices"):
            return response
        fills.append(response.choices[0].text)
        segments[hole] = fills[-1]
        if whole is not None:
            for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
                value = getattr(whole.usage, name) + getattr(response.usage, name)
                setattr(response.usage, name, value)
            told = added(getattr(whole, FIELD, None), getattr(response, FIELD, None))
            setattr(response, FIELD, told)
        whole = response
    assert whole is not None
    whole.choices[0].text = "".join(segment or "" for segment in segments)
    whole.choices[0].holes = fills
    return whole


def _for_both(whole: dict[str, Any]) -> dict[str, Any]:
    """Mistral's readers look for a message where OpenAI's look for a text."""
    for choice in whole["choices"]:
        choice["message"] = {"role": "assistant", "content": choice["text"]}
    return whole


async def _stream(response: Any, request: FimRequest) -> AsyncGenerator[str, None]:
    async for event in as_stream(response, request):
        if (chunk := chunk_of(event)) is not None:
            for choice in chunk["choices"]:
                choice["delta"] = {"role": "assistant", "content": choice["text"]}
            event = event_of(chunk)
        yield event


@router.post("/v1/fim/completions")
@with_cancellation  # type: ignore[untyped-decorator]
async def create_fim(request: FimRequest, raw_request: Request) -> Any:
    """Fill in."""
    response = await _filled(request, raw_request)
    if isinstance(response, ErrorResponse):
        return JSONResponse(response.model_dump(), response.error.code)
    if request.stream:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            _stream(response, request), media_type="text/event-stream", headers=headers
        )
    return JSONResponse(_for_both(response.model_dump()))
