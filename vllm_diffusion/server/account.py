"""What a response has cost: ``diffusion`` beside ``usage``, and usage in the forms clients read.

    "diffusion": {"steps": 9, "forwards": 9, "tokens": 84, "tokens_per_forward": 9.333}

It is made of vLLM's ``metrics`` of one text, so it is there where those are: not with ``n`` above 1
or several prompts, and in a stream beside the usage that ``stream_options`` asks for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from vllm_diffusion.server.sse import chunk_of, event_of

FIELD = "diffusion"
MARKS = ('"metrics":', '"usage":')
"""One of them stands in an event that has numbers; in a text its quotes would be escaped."""
NUMBERS = ("steps", "forwards", "tokens", "tokens_per_forward")
DECIMALS = 3


def account_of(metrics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The numbers of a response, of its ``metrics``; None where there are none."""
    told = ((metrics or {}).get("speculative_decoding") or {}).get("diffusion")
    if told is None:
        return None
    return _account(told["num_denoising_steps"], told["num_forwards"], told["num_tokens"])


def added(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What two responses say, with the numbers of both together, where both have some."""
    said = {**(one or {}), **(other or {})}
    if not (one and other and "steps" in one and "steps" in other):
        return {key: value for key, value in said.items() if key not in NUMBERS} or None
    return said | _account(*(one[name] + other[name] for name in NUMBERS[:3]))


def _account(steps: int, forwards: int, tokens: int) -> dict[str, Any]:
    return {
        "steps": steps,
        "forwards": forwards,
        "tokens": tokens,
        "tokens_per_forward": round(tokens / forwards, DECIMALS) if forwards else 0.0,
    }


def completed(usage: dict[str, Any]) -> dict[str, Any]:
    """Usage with OpenAI's details and, beside them, the flat names of older Mercury clients."""
    details = {"reasoning_tokens": 0} | (usage.get("completion_tokens_details") or {})
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    flat = {"reasoning_tokens": details["reasoning_tokens"] or 0}
    if cached is not None:
        flat["cached_input_tokens"] = cached
    return {**usage, "completion_tokens_details": details, **flat}


def account(response: Any) -> None:
    """Put the numbers into a chat's or completion's response, in place."""
    metrics = response.model_dump(include={"metrics"}).get("metrics")
    if (told := account_of(metrics)) is not None:
        setattr(response, FIELD, told)
    if (usage := getattr(response, "usage", None)) is not None:
        response.usage = type(usage).model_validate(completed(usage.model_dump()))


async def accounted(events: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """The same stream; an event with numbers has those of a response, any other is passed on."""
    async with aclosing(events):
        async for event in events:
            if not isinstance(event, str) or not any(mark in event for mark in MARKS):
                yield event
                continue
            chunk = chunk_of(event)
            if chunk is None:
                yield event
                continue
            if (told := account_of(chunk.get("metrics"))) is not None:
                chunk[FIELD] = told
            if chunk.get("usage"):
                chunk["usage"] = completed(chunk["usage"])
            yield event_of(chunk)
