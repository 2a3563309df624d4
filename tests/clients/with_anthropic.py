"""anthropic."""

from __future__ import annotations

from typing import Any

import anthropic
from checks import CALL, MODEL, QUESTION, URL, all_right, is_answer, is_call, refuses, said, told

CLIENT = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
MESSAGES: Any = CLIENT.messages
ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 256, "messages": said(QUESTION)}


def message() -> bool:
    def ask(question: str) -> Any:
        return MESSAGES.create(**ASK | {"messages": said(question)}).content[0].text

    return all_right(ask)


def stream() -> bool:
    with MESSAGES.stream(**ASK) as events:
        return is_answer("".join(events.text_stream))


def tools() -> bool:
    functions = [tool["function"] for tool in CALL["tools"]]
    offered = [{"name": one["name"], "input_schema": one["parameters"]} for one in functions]
    answer = MESSAGES.create(**ASK | {"messages": said(CALL["question"])}, tools=offered)
    (call,) = (block for block in answer.content if block.type == "tool_use")
    return is_call(call.name, call.input)


def refused() -> bool:
    def ask() -> Any:
        return MESSAGES.create(**ASK, extra_body={"diffusing": True})

    return refuses(ask, anthropic.BadRequestError, "diffusing")


def counted() -> bool:
    counts = MESSAGES.count_tokens(model=MODEL, messages=ASK["messages"])
    return bool(counts.input_tokens > 0)


told(
    "anthropic",
    {
        "chat": message,
        "stream": stream,
        "tools": tools,
        "errors": refused,
        "count_tokens": counted,
    },
)
