"""openai-python."""

from __future__ import annotations

import json
from typing import Any

import openai
from checks import (
    ANSWER,
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
    said,
    told,
)

CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
CHATS: Any = CLIENT.chat.completions
ASK: dict[str, Any] = {"model": MODEL, "messages": said(QUESTION)}


def chat() -> bool:
    def ask(question: str) -> Any:
        return CHATS.create(model=MODEL, messages=said(question)).choices[0].message.content

    return all_right(ask)


def stream() -> bool:
    chunks = CHATS.create(**ASK, stream=True, stream_options={"include_usage": True})
    text, usage = "", None
    for chunk in chunks:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    return is_answer(text) and usage is not None and usage.completion_tokens > 0


def tools() -> bool:
    answer = CHATS.create(model=MODEL, messages=said(CALL["question"]), tools=CALL["tools"])
    (call,) = answer.choices[0].message.tool_calls
    return is_call(call.function.name, call.function.arguments)


def streamed_tools() -> bool:
    chunks = CHATS.create(
        model=MODEL, messages=said(CALL["question"]), tools=CALL["tools"], stream=True
    )
    name = arguments = ""
    for chunk in chunks:
        for part in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
            name += part.function.name or ""
            arguments += part.function.arguments or ""
    return is_call(name, arguments)


def structured() -> bool:
    ask = {"model": MODEL, "messages": said(RECORD["question"]), "response_format": FORMAT}
    return bool(json.loads(CHATS.create(**ask).choices[0].message.content) == RECORD["object"])


def suffix() -> bool:
    answer = CLIENT.completions.create(
        model=MODEL, prompt=INFILL["prefix"], suffix=INFILL["suffix"], max_tokens=256
    )
    return is_answer(answer.choices[0].text, INFILL["answer"])


def drafts() -> bool:
    chunks = CHATS.create(**ASK, stream=True, extra_body={"diffusing": True})
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    return is_answer(texts[-1]) and len(texts) > 2 and not all(map(is_answer, texts))


def merged() -> bool:
    body = {"extra_body": {"vllm_xargs": {"diffusion_max_steps": 16}}}
    return is_answer(CHATS.create(**ASK, extra_body=body).choices[0].message.content)


def refused() -> bool:
    try:
        CHATS.create(**ASK, extra_body={"diffusing": True})
    except openai.BadRequestError as error:
        return error.param == "diffusing" and error.code == "unsupported_parameter"
    return False


def responses() -> bool:
    return is_answer(CLIENT.responses.create(model=MODEL, input=QUESTION).output_text)


def models() -> bool:
    one: Any = CLIENT.models.retrieve(MODEL)
    return one.context_length > 0 and MODEL in [each.id for each in CLIENT.models.list()]


def unknown_path() -> bool:
    try:
        openai.OpenAI(base_url=URL, api_key="none", max_retries=0).models.list()
    except openai.NotFoundError as error:
        return "/models" in error.message
    return False


def cached() -> bool:
    long = ASK | {"messages": said(f"{ANSWER * 8}\n{QUESTION}")}
    usages = [CHATS.create(**long, max_tokens=4).usage for _ in range(2)]
    details = usages[1].prompt_tokens_details
    return bool(details and details.cached_tokens)


told(
    "openai",
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "tools, streamed": streamed_tools,
        "JSON schema": structured,
        "errors: field and code": refused,
        "fim (suffix)": suffix,
        "responses": responses,
        "diffusing": drafts,
        "extra_body within extra_body": merged,
        "models": models,
        "errors: an unknown path": unknown_path,
        "cached tokens": cached,
    },
)
