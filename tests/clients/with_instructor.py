"""instructor, which makes objects of answers; chats without one are the openai client's."""

from __future__ import annotations

from typing import Any

import instructor
import openai
from checks import MODEL, RECORD, URL, refuses, said, told
from pydantic import create_model

FIELDS: dict[str, Any] = dict.fromkeys(RECORD["object"], (str, ...))
RECORD_MODEL = create_model("record", **FIELDS)
ASK: dict[str, Any] = {"model": MODEL, "messages": said(RECORD["question"]), "max_retries": 0}


def client(mode: Any = None) -> Any:
    server = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
    return instructor.from_openai(server, **{} if mode is None else {"mode": mode})


def found(mode: Any = None) -> bool:
    answer = client(mode).create(**ASK, response_model=RECORD_MODEL)
    return bool(answer.model_dump() == RECORD["object"])


def structured() -> bool:
    return found(instructor.Mode.JSON_SCHEMA)


def stream() -> bool:
    parts = client(instructor.Mode.JSON_SCHEMA).create_partial(**ASK, response_model=RECORD_MODEL)
    return bool([*parts][-1].model_dump() == RECORD["object"])


def refused() -> bool:
    def ask() -> Any:
        one = client(instructor.Mode.JSON_SCHEMA)
        return one.create(**ASK, response_model=RECORD_MODEL, extra_body={"diffusing": True})

    return refuses(ask, Exception, "diffusing")


told(
    "instructor",
    {
        "stream": stream,
        "JSON schema": structured,
        "JSON schema, by a function": found,
        "errors": refused,
    },
)
