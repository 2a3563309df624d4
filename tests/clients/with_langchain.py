"""LangChain, by langchain-openai."""

from __future__ import annotations

from typing import Any

import openai
from checks import (
    CALL,
    MODEL,
    QUESTION,
    RECORD,
    URL,
    all_right,
    is_answer,
    is_call,
    refuses,
    told,
)
from langchain_openai import ChatOpenAI

CLIENT: Any = ChatOpenAI(
    model=MODEL, base_url=f"{URL}/v1", api_key="none", max_retries=0, temperature=0
)
SCHEMA = {"title": "record", "description": "A record."} | RECORD["schema"]


def chat() -> bool:
    return all_right(lambda question: CLIENT.invoke(question).content)


def stream() -> bool:
    return is_answer("".join(chunk.content for chunk in CLIENT.stream(QUESTION)))


def batch() -> bool:
    return all(is_answer(each.content) for each in CLIENT.batch([QUESTION] * 4))


def tools() -> bool:
    (call,) = CLIENT.bind_tools(CALL["tools"]).invoke(CALL["question"]).tool_calls
    return is_call(call["name"], call["args"])


def structured() -> bool:
    model = CLIENT.with_structured_output(SCHEMA, method="json_schema", strict=True)
    return bool(model.invoke(RECORD["question"]) == RECORD["object"])


def by_function() -> bool:
    model = CLIENT.with_structured_output(SCHEMA, method="function_calling")
    return bool(model.invoke(RECORD["question"]) == RECORD["object"])


def refused() -> bool:
    model = CLIENT.bind(extra_body={"diffusing": True})
    return refuses(lambda: model.invoke(QUESTION), openai.BadRequestError, "diffusing")


told(
    "langchain-openai",
    {
        "chat": chat,
        "stream": stream,
        "batch": batch,
        "tools": tools,
        "JSON schema": structured,
        "JSON schema, by a function": by_function,
        "errors": refused,
    },
)
