"""LiteLLM, by its providers for Inception."""

from __future__ import annotations

import json
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from checks import (
    CALL,
    FORMAT,
    INFILL,
    MODEL,
    QUESTION,
    RECORD,
    URL,
    all_right,
    is_answer,
    is_call,
    refuses,
    said,
    told,
)

SERVER = {"api_base": f"{URL}/v1", "api_key": "none", "num_retries": 0}


def completion(question: str, **fields: Any) -> Any:
    return litellm.completion(f"inception/{MODEL}", said(question), **SERVER, **fields)


def text_completion(**fields: Any) -> Any:
    return litellm.text_completion(
        model=f"text-completion-inception/{MODEL}",
        prompt=INFILL["prefix"],
        suffix=INFILL["suffix"],
        **SERVER,
        **fields,
    )


def chat() -> bool:
    return all_right(lambda question: completion(question).choices[0].message.content)


def stream() -> bool:
    chunks = completion(QUESTION, stream=True)
    return is_answer("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))


def tools() -> bool:
    answer = completion(CALL["question"], tools=CALL["tools"])
    (call,) = answer.choices[0].message.tool_calls
    return is_call(call.function.name, call.function.arguments)


def structured() -> bool:
    answer = completion(RECORD["question"], response_format=FORMAT)
    return bool(json.loads(answer.choices[0].message.content) == RECORD["object"])


def refused() -> bool:
    def ask() -> Any:
        return completion(QUESTION, diffusing=True)

    return refuses(ask, litellm.BadRequestError, "diffusing")


def too_long() -> bool:
    def ask() -> Any:
        return completion("tree " * 4000)

    return refuses(ask, litellm.ContextWindowExceededError, "context")


def effort() -> bool:
    return is_answer(completion(QUESTION, reasoning_effort="instant").choices[0].message.content)


def fim() -> bool:
    return is_answer(text_completion().choices[0].text, INFILL["answer"])


def streamed_fim() -> bool:
    chunks = text_completion(stream=True)
    text = "".join(chunk.choices[0].text or "" for chunk in chunks if chunk.choices)
    return is_answer(text, INFILL["answer"])


told(
    "litellm",
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "JSON schema": structured,
        "errors": refused,
        "errors: context exceeded": too_long,
        "reasoning_effort": effort,
        "fim": fim,
        "fim, streamed": streamed_fim,
    },
)
