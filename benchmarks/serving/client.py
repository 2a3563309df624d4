"""Prompts through the OpenAI client, timed from the client's side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from openai import AsyncOpenAI

from ..tiny.prompts import check
from ..tiny.sample import Sample

REQUEST_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, and what it cost."""

    task: str
    is_right: bool
    num_tokens: int
    """Output tokens, the stop token included."""
    num_forwards: int
    """Forwards that served the request, prompt and commits included."""
    num_steps: int
    """Forwards that made tokens: denoising steps, or one a token."""
    engine_ms: float
    """From the request's scheduling to its last token, by the engine's clock."""
    first_token_ms: float | None
    """From sending to the first text, by this process's clock; streamed requests only."""


@dataclass(frozen=True, slots=True)
class Pass:
    """All replies to one round of prompts, and how long the round took."""

    replies: list[Reply]
    seconds: float


@dataclass(frozen=True, slots=True)
class Question:
    """How a prompt is asked."""

    model: str
    max_tokens: int
    xargs: dict[str, Any]
    """``vllm_xargs``: the ``diffusion_*`` fields."""
    is_streamed: bool = False


def _body(question: Question, sample: Sample) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": question.model,
        "messages": sample.prompt_messages,
        "temperature": 0.0,
        "max_tokens": question.max_tokens,
    }
    if sample.tools:
        # The answer is compared as text, so it must not be parsed into calls.
        body |= {"tools": sample.tools, "tool_choice": "none"}
    if question.xargs:
        body["extra_body"] = {"vllm_xargs": question.xargs}
    return body


def _reply(sample: Sample, text: str, response: Any, first_token_ms: float | None) -> Reply:
    """``response`` is the whole response, or the last chunk of a stream."""
    metrics = response.model_extra["metrics"]
    num_tokens: int = response.usage.completion_tokens
    diffusion = (metrics.get("speculative_decoding") or {}).get("diffusion")
    return Reply(
        task=sample.task,
        is_right=check(sample, text),
        num_tokens=num_tokens,
        # A token a forward; the prompt's forward makes the first one.
        num_forwards=diffusion["num_forwards"] if diffusion else num_tokens,
        num_steps=diffusion["num_denoising_steps"] if diffusion else num_tokens,
        engine_ms=metrics["time_to_first_token_ms"] + metrics["generation_time_ms"],
        first_token_ms=first_token_ms,
    )


async def ask(client: AsyncOpenAI, question: Question, sample: Sample) -> Reply:
    """Send one prompt and wait for the whole answer."""
    body = _body(question, sample)
    if not question.is_streamed:
        response = await client.chat.completions.create(**body)
        return _reply(sample, response.choices[0].message.content or "", response, None)
    parts: list[str] = []
    first_token_ms = None
    chunk = None
    start = time.perf_counter()
    stream = await client.chat.completions.create(
        **body, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        if chunk.choices and (text := chunk.choices[0].delta.content):
            if first_token_ms is None:
                first_token_ms = (time.perf_counter() - start) * 1e3
            parts.append(text)
    return _reply(sample, "".join(parts), chunk, first_token_ms)


async def _run(
    url: str,
    question: Question,
    samples: Sequence[Sample],
    concurrency: int,
    on_reply: Callable[[], None],
) -> Pass:
    waiting = iter(samples)
    replies: list[Reply] = []

    async def work() -> None:
        for sample in waiting:  # shared: each prompt is taken once
            replies.append(await ask(client, question, sample))
            on_reply()

    async with AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", timeout=REQUEST_SECONDS, max_retries=0
    ) as client:
        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return Pass(replies, time.perf_counter() - start)


def run_pass(
    url: str,
    question: Question,
    samples: Sequence[Sample],
    concurrency: int,
    on_reply: Callable[[], None] = lambda: None,
) -> Pass:
    """Ask every prompt once, ``concurrency`` at a time."""
    return asyncio.run(_run(url, question, samples, concurrency, on_reply))
