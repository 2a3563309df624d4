"""OpenAI's ``prediction`` of a chat: the text that is expected is the draft of the answer.

    "prediction": {"type": "content", "content": "..."}

``usage.completion_tokens_details`` says how many of its tokens stand in the answer, in their order
(``accepted_prediction_tokens``), and how many do not. Other than with OpenAI, the latter are not
part of ``completion_tokens``: nobody has made them.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from vllm_diffusion.request.features import is_said
from vllm_diffusion.request.seed_canvas import DRAFT
from vllm_diffusion.server.draft_text import PLAIN, check_length
from vllm_diffusion.server.refusal import refuse
from vllm_diffusion.server.sse import chunk_of, event_of

if TYPE_CHECKING:
    from vllm_diffusion.server.handlers import Handler

FIELD = "prediction"
KEYS = ("type", "content")
ALONE = ("response_format", "structured_outputs", "bad_words", "thinking_token_budget", "echo")
"""Fields beside which there can be no draft."""
AS_OPENAI = ("logprobs", "presence_penalty", "frequency_penalty")
"""Those that OpenAI refuses as well."""


def content_of(said: Any) -> str:
    """The text of a prediction.

    Raises:
        VLLMValidationError: it has another shape.
    """
    if not isinstance(said, dict):
        raise refuse(FIELD, said, "it must be an object with type and content", "is not valid")
    for key in said:
        if key not in KEYS:
            raise refuse(f"{FIELD}.{key}", said[key], "this field is not known", "is not valid")
    if said.get("type") != "content":
        raise refuse(f"{FIELD}.type", said.get("type"), "it must be 'content'", "is not valid")
    content = said.get("content")
    if isinstance(content, str):
        return content
    texts = [_text_of(part) for part in content] if isinstance(content, list) else [None]
    if None in texts:
        remedy = 'it must be a text, or a list of {"type": "text", "text": "..."}'
        raise refuse(f"{FIELD}.content", content, remedy, "is not valid")
    return "".join(text for text in texts if text is not None)


def _text_of(part: Any) -> str | None:
    is_text = isinstance(part, dict) and part.get("type") == "text"
    text = part.get("text") if is_text else None
    return text if isinstance(text, str) else None


def check_beside(request: Any) -> None:
    """Refuse what a chat cannot have beside a prediction.

    Raises:
        VLLMValidationError: with that field.
    """
    remedy = f"it does not go together with {FIELD}; leave one of the two out"
    if (request.n or 1) > 1:
        raise refuse("n", request.n, remedy)
    if request.tools and request.tool_choice != "none":
        raise refuse("tools", [tool.function.name for tool in request.tools], remedy)
    for field in AS_OPENAI:
        value = getattr(request, field)
        if value and value > 0:
            raise refuse(field, value, remedy)
    for field in ALONE:
        value = getattr(request, field, None)
        is_text = field == "response_format" and getattr(value, "type", None) == "text"
        if is_said(value) and value is not False and not is_text:
            raise refuse(field, value, remedy)
    if DRAFT in (request.vllm_xargs or {}):
        raise refuse(f"vllm_xargs.{DRAFT}", request.vllm_xargs[DRAFT], remedy)


def num_in_order(expected: Sequence[int], made: Sequence[int]) -> int:
    """How many tokens of one text stand in another one, in their order.

    The longest common subsequence, by bits: a few operations on integers of as many bits as
    ``expected`` has tokens, for each token of ``made``.
    """
    start = 0
    while start < min(len(expected), len(made)) and expected[start] == made[start]:
        start += 1
    places: dict[int, int] = {}
    rest = expected[start:]
    for at, token in enumerate(rest):
        places[token] = places.get(token, 0) | 1 << at
    every = (1 << len(rest)) - 1
    left = every
    for token in made[start:]:
        found = left & places.get(token, 0)
        left = (left + found) | (left - found)
    return start + len(rest) - (left & every).bit_count()


def details(expected: Sequence[int], made: Sequence[int]) -> dict[str, int]:
    """Of ``usage.completion_tokens_details``."""
    accepted = num_in_order(expected, made)
    return {
        "accepted_prediction_tokens": accepted,
        "rejected_prediction_tokens": len(expected) - accepted,
    }


def counted(usage: dict[str, Any], told: dict[str, int]) -> dict[str, Any]:
    """Usage with these details beside others."""
    known = usage.get("completion_tokens_details") or {}
    return {**usage, "completion_tokens_details": {**known, **told}}


def predicting(answer: Handler, handler: Any) -> Handler:
    """A handler of chats that also reads predictions."""

    @functools.wraps(answer)
    async def answered(request: Any, *args: Any, **kwargs: Any) -> Any:
        said = (request.model_extra or {}).get(FIELD)
        if said is None:
            return await answer(request, *args, **kwargs)
        expected = content_of(said)
        check_beside(request)
        check_length(expected, FIELD, handler.model_config)
        if expected:
            request.vllm_xargs = {**(request.vllm_xargs or {}), DRAFT: expected}
        response = await answer(request, *args, **kwargs)
        if isinstance(response, AsyncGenerator):
            replaces = request.model_extra.get("diffusing") is True
            return _counted_stream(response, handler, expected, replaces=replaces)
        await count(response, handler, expected)
        return response

    return answered


async def count(response: Any, handler: Any, expected: str) -> None:
    """Say in a response's usage how much of a text it has kept, in place."""
    if not hasattr(response, "choices") or response.usage is None:
        return
    texts = [choice.message.content or "" for choice in response.choices]
    told = await _details(handler, expected, "".join(texts))
    usage = response.usage
    response.usage = type(usage).model_validate(counted(usage.model_dump(), told))


async def _details(handler: Any, expected: str, made: str) -> dict[str, int]:
    of_text = handler.renderer.tokenize_prompt_async
    tokens = [await of_text({"prompt": text}, PLAIN) for text in (expected, made)]
    return details(*(each["prompt_token_ids"] for each in tokens))


async def _counted_stream(
    events: AsyncGenerator[Any, None], handler: Any, expected: str, *, replaces: bool
) -> AsyncGenerator[Any, None]:
    """The same stream; the usage at its end has the details."""
    made = ""
    async with aclosing(events):
        async for event in events:
            chunk = chunk_of(event)
            if chunk is None or "choices" not in chunk:
                yield event
                continue
            for piece in _pieces(chunk["choices"]):
                made = piece if replaces else made + piece
            if chunk.get("usage") and not chunk["choices"]:
                told = await _details(handler, expected, made)
                event = event_of({**chunk, "usage": counted(chunk["usage"], told)})
            yield event


def _pieces(choices: Iterable[dict[str, Any]]) -> list[str]:
    deltas: list[dict[str, Any]] = [choice.get("delta") or {} for choice in choices]
    return [delta["content"] for delta in deltas if delta.get("content")]
