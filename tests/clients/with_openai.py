"""openai-python."""

from __future__ import annotations

import json
from typing import Any

import openai
from checks import ASKED, CODE, FIELDS, FORMAT, MODEL, OBJECT, base_url, is_code, told

CLIENT = openai.OpenAI(base_url=f"{base_url()}/v1", api_key="none", max_retries=0)
CHATS: Any = CLIENT.chat.completions
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": ASKED}]}


def chat() -> bool:
    return is_code(CHATS.create(**ASK).choices[0].message.content)


def stream() -> bool:
    chunks = CHATS.create(**ASK, stream=True, stream_options={"include_usage": True})
    text, usage = "", None
    for chunk in chunks:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    return is_code(text) and usage is not None and usage.completion_tokens > 0


def drafts() -> bool:
    chunks = CHATS.create(**ASK, stream=True, extra_body={"diffusing": True})
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    return is_code(texts[-1]) and len(texts) > 2 and any(not is_code(text) for text in texts)


def structured() -> bool:
    ask = ASK | {"messages": [{"role": "user", "content": FIELDS}], "response_format": FORMAT}
    return bool(json.loads(CHATS.create(**ask).choices[0].message.content) == OBJECT)


def merged() -> bool:
    body = {"extra_body": {"vllm_xargs": {"diffusion_max_steps": 16}}}
    return is_code(CHATS.create(**ASK, extra_body=body).choices[0].message.content)


def refused() -> bool:
    try:
        CHATS.create(**ASK, extra_body={"diffusing": True})
    except openai.BadRequestError as error:
        return error.param == "diffusing" and error.code == "unsupported_parameter"
    return False


def responses() -> bool:
    return is_code(CLIENT.responses.create(model=MODEL, input=ASKED).output_text)


def models() -> bool:
    one: Any = CLIENT.models.retrieve(MODEL)
    return one.context_length > 0 and MODEL in [each.id for each in CLIENT.models.list()]


def unknown_path() -> bool:
    try:
        openai.OpenAI(base_url=base_url(), api_key="none").models.list()
    except openai.NotFoundError as error:
        return "/models" in error.message
    return False


def cached() -> bool:
    long = ASK | {"messages": [{"role": "user", "content": f"{CODE * 8}\n{ASKED}"}]}
    usages = [CHATS.create(**long, max_tokens=4).usage for _ in range(2)]
    return bool(usages[1].prompt_tokens_details.cached_tokens > 0)


told(
    "openai",
    {
        "chat": chat,
        "stream with usage": stream,
        "diffusing": drafts,
        "json_schema": structured,
        "extra_body within extra_body": merged,
        "a refusal's field and code": refused,
        "responses": responses,
        "models list and retrieve": models,
        "an unknown path's message": unknown_path,
        "cached tokens": cached,
    },
)
