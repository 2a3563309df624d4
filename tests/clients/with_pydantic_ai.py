"""pydantic-ai."""

from __future__ import annotations

from typing import Any

from checks import CALL, MODEL, QUESTION, RECORD, URL, all_right, is_answer, is_call, refuses, told
from pydantic import create_model
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, ToolOutput
from pydantic_ai.direct import model_request_sync
from pydantic_ai.messages import ModelRequest, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

SERVER: Any = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key="none"))
FIELDS: dict[str, Any] = dict.fromkeys(RECORD["object"], (str, ...))
RECORD_MODEL = create_model("record", **FIELDS)


def chat() -> bool:
    return all_right(lambda question: Agent(SERVER).run_sync(question).output)


def stream() -> bool:
    answer = Agent(SERVER).run_stream_sync(QUESTION)
    return is_answer("".join(answer.stream_text(delta=True)))


def tools() -> bool:
    functions = [tool["function"] for tool in CALL["tools"]]
    offered = [
        ToolDefinition(name=one["name"], parameters_json_schema=one["parameters"])
        for one in functions
    ]
    answer = model_request_sync(
        SERVER,
        [ModelRequest.user_text_prompt(CALL["question"])],
        model_request_parameters=ModelRequestParameters(function_tools=offered),
    )
    (call,) = (part for part in answer.parts if isinstance(part, ToolCallPart))
    return is_call(call.tool_name, call.args_as_dict())


def found(output_type: Any) -> bool:
    answer: Any = Agent(SERVER, output_type=output_type).run_sync(RECORD["question"]).output
    return bool(answer.model_dump() == RECORD["object"])


def structured() -> bool:
    return found(NativeOutput(RECORD_MODEL))


def by_function() -> bool:
    return found(ToolOutput(RECORD_MODEL))


def refused() -> bool:
    def ask() -> Any:
        settings: Any = {"extra_body": {"diffusing": True}}
        return Agent(SERVER).run_sync(QUESTION, model_settings=settings)

    return refuses(ask, ModelHTTPError, "diffusing")


told(
    "pydantic-ai-slim",
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "JSON schema": structured,
        "JSON schema, by a function": by_function,
        "errors": refused,
    },
)
