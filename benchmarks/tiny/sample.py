"""The record every task produces: a chat prompt and the one right answer.

A task is a function ``(rng) -> Sample``; the same state of ``rng`` gives the same sample.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One prompt with its answer; ``tools`` is an OpenAI-style list or empty.

    ``draft`` is a text that the answer is near to, where there is one.
    """

    task: str
    prompt_messages: list[Message]
    answer: str
    tools: list[dict[str, Any]] = field(default_factory=list)
    draft: str = ""


Task = Callable[[Random], Sample]


def ask(task: str, question: str, answer: str, tools: list[dict[str, Any]] | None = None) -> Sample:
    """A sample with a single user message."""
    return Sample(task, [{"role": "user", "content": question}], answer, tools or [])
