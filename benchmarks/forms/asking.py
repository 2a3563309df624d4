"""Sends questions to a server and judges what comes back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema
from openai import AsyncOpenAI

from .questions import FORMS, Question

MAX_TOKENS = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    is_valid: bool
    """It parses and fits the schema."""
    is_right: bool
    num_tokens: int
    num_forwards: int


@dataclass(frozen=True, slots=True)
class Round:
    """All answers to one set in one form."""

    replies: list[Reply]
    seconds: float

    def share(self, name: str) -> float:
        return sum(getattr(reply, name) for reply in self.replies) / len(self.replies)

    @property
    def tokens_per_forward(self) -> float:
        return sum(r.num_tokens for r in self.replies) / sum(r.num_forwards for r in self.replies)

    @property
    def tokens_per_second(self) -> float:
        return sum(r.num_tokens for r in self.replies) / self.seconds


def _answer(question: Question, form: str, message: Any) -> Any:
    """What the message answers, parsed; ``None`` where it does not."""
    text = message.content
    if form.startswith("tool"):
        calls = message.tool_calls or []
        if len(calls) != 1 or calls[0].function.name != question.function:
            return None
        text = calls[0].function.arguments
    try:
        return json.loads(text)
    except (TypeError, json.JSONDecodeError):
        return None


def _fits(answer: Any, schema: dict[str, Any]) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(answer))


async def _ask(client: AsyncOpenAI, model: str, question: Question, form: str) -> Reply:
    response = await client.chat.completions.create(
        model=model,
        messages=question.messages,  # type: ignore[arg-type]
        temperature=0.0,
        max_tokens=MAX_TOKENS,
        **FORMS[form](question),
    )
    answer = _answer(question, form, response.choices[0].message)
    metrics = (response.model_extra or {}).get("metrics") or {}
    diffusion = (metrics.get("speculative_decoding") or {}).get("diffusion")
    num_tokens = response.usage.completion_tokens if response.usage else 0
    return Reply(
        is_valid=_fits(answer, question.schema),
        is_right=answer == question.fields,
        num_tokens=num_tokens,
        num_forwards=diffusion["num_forwards"] if diffusion else num_tokens,
    )


async def ask_all(
    url: str,
    model: str,
    questions: Sequence[Question],
    form: str,
    concurrency: int,
    on_reply: Callable[[], None],
) -> Round:
    """Ask each question once, ``concurrency`` at a time."""
    waiting = iter(questions)
    replies: list[Reply] = []

    async def work(client: AsyncOpenAI) -> None:
        for question in waiting:  # shared: each is taken once
            replies.append(await _ask(client, model, question, form))
            on_reply()

    async with AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", timeout=300, max_retries=0
    ) as client:
        start = time.perf_counter()
        await asyncio.gather(*(work(client) for _ in range(concurrency)))
        return Round(replies, time.perf_counter() - start)
