"""LlamaIndex, by OpenAILike."""

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
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import ToolMetadata
from llama_index.llms.openai_like import OpenAILike
from pydantic import create_model

SERVER: dict[str, Any] = {
    "model": MODEL,
    "api_base": f"{URL}/v1",
    "api_key": "none",
    "is_chat_model": True,
    "is_function_calling_model": True,
    "context_window": 2048,
    "max_retries": 0,
    "temperature": 0,
}
CLIENT: Any = OpenAILike(**SERVER)
TYPES = {"string": str, "integer": int}
FIELDS: dict[str, Any] = dict.fromkeys(RECORD["object"], (str, ...))
RECORD_MODEL = create_model("Record", **FIELDS)


def messages(text: str) -> list[Any]:
    return [ChatMessage(role="user", content=text)]


def tool_of(function: dict[str, Any]) -> Any:
    """A tool of the same name and fields."""
    properties = function["parameters"]["properties"]
    fields: dict[str, Any] = {name: (TYPES[one["type"]], ...) for name, one in properties.items()}
    metadata = ToolMetadata(
        description=function["name"],
        name=function["name"],
        fn_schema=create_model(function["name"], **fields),
    )
    return FunctionTool(fn=lambda **given: str(given), metadata=metadata)


def chat() -> bool:
    return all_right(lambda question: CLIENT.chat(messages(question)).message.content)


def stream() -> bool:
    parts = CLIENT.stream_chat(messages(QUESTION))
    return is_answer("".join(part.delta or "" for part in parts))


def tools() -> bool:
    offered = [tool_of(tool["function"]) for tool in CALL["tools"]]
    answer = CLIENT.chat_with_tools(offered, user_msg=CALL["question"])
    (call,) = CLIENT.get_tool_calls_from_response(answer)
    return is_call(call.tool_name, call.tool_kwargs)


def found(client: Any) -> bool:
    answer = client.structured_predict(RECORD_MODEL, PromptTemplate("{text}"), text=TEXT)
    return bool(answer.model_dump() == RECORD["object"])


TEXT = RECORD["question"]


def structured() -> bool:
    return found(OpenAILike(**SERVER, should_use_structured_outputs=True))


def by_function() -> bool:
    return found(CLIENT)


def refused() -> bool:
    def ask() -> Any:
        return CLIENT.chat(messages(QUESTION), extra_body={"diffusing": True})

    return refuses(ask, openai.BadRequestError, "diffusing")


told(
    "llama-index-llms-openai-like",
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "JSON schema": structured,
        "JSON schema, by a function": by_function,
        "errors": refused,
    },
)
