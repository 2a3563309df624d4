"""inceptionai: Mercury's own client."""

from __future__ import annotations

import json
from typing import Any

import inceptionai
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

CLIENT: Any = inceptionai.Inception(base_url=URL, api_key="none", max_retries=0)
CHATS = CLIENT.chat.completions
ASK: dict[str, Any] = {"model": MODEL, "messages": said(QUESTION)}
HOLE = {"model": MODEL, "prompt": INFILL["prefix"], "suffix": INFILL["suffix"]}
NOT_SERVED = "not served"


def chat() -> bool:
    def ask(question: str) -> Any:
        return CHATS.create(model=MODEL, messages=said(question)).choices[0].message.content

    return all_right(ask)


def stream() -> bool:
    chunks = CHATS.create(**ASK, stream=True)
    return is_answer("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))


def tools() -> bool:
    answer = CHATS.create(model=MODEL, messages=said(CALL["question"]), tools=CALL["tools"])
    (call,) = answer.choices[0].message.tool_calls
    return is_call(call.function.name, call.function.arguments)


def structured() -> bool:
    ask = {"model": MODEL, "messages": said(RECORD["question"]), "response_format": FORMAT}
    return bool(json.loads(CHATS.create(**ask).choices[0].message.content) == RECORD["object"])


def refused() -> bool:
    def ask() -> Any:
        return CHATS.create(**ASK, diffusing=True)

    return refuses(ask, inceptionai.BadRequestError, "diffusing")


def fim() -> bool:
    return is_answer(CLIENT.fim.completions.create(**HOLE).choices[0].text, INFILL["answer"])


def streamed_fim() -> bool:
    chunks = CLIENT.fim.completions.create(**HOLE, stream=True)
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    return is_answer(text, INFILL["answer"])


def edit() -> bool | str:
    if not list(CLIENT.models.list_edit().data):
        return NOT_SERVED
    text = f"<|code_to_edit|>\n{INFILL['prefix']}\n<|/code_to_edit|>"
    answer = CLIENT.edit.completions.create(model=MODEL, messages=said(text))
    return isinstance(answer.choices[0].message.content, str)


def decisions() -> bool:
    question = {"type": "choice", "criteria": {"cat": None, "dog": None}}
    answer = CLIENT.decisions.create(
        model=MODEL, state="The pet is a cat.", questions={"pet": question}
    ).answers["pet"]
    shares = answer.probabilities
    return set(shares) == {"cat", "dog"} and abs(sum(shares.values()) - 1) < 1e-3


def extra_params() -> bool:
    extra = {"vllm_xargs": {"diffusion_max_steps": 16}}
    return is_answer(CHATS.create(**ASK, extra_params=extra).choices[0].message.content)


def drafts() -> bool:
    chunks = CHATS.create(**ASK, stream=True, diffusing=True)
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    return is_answer(texts[-1]) and not all(map(is_answer, texts))


def models() -> bool:
    (card,) = CLIENT.models.list().data
    (fim_card,) = CLIENT.models.list_fim().data
    return card.name == fim_card.name == MODEL and "chat.completions" in card.supported_endpoints


told(
    "inceptionai",
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "JSON schema": structured,
        "errors": refused,
        "fim": fim,
        "fim, streamed": streamed_fim,
        "edit": edit,
        "decisions": decisions,
        "extra_params": extra_params,
        "diffusing": drafts,
        "models": models,
    },
)
