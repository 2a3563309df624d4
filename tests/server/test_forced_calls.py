"""Calls that must come, of a model that knows none: their arguments are objects all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.client import Client

PLACE = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
NAMED = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
@pytest.mark.parametrize("more", [{}, {"strict": False}, {"strict": True}], ids=str)
def test_arguments_are_the_functions(client: Client, choice: Any, more: dict[str, Any]) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": PLACE, **more}}]
    answer = client.chat(
        "Hello!",
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=False,
        max_tokens=200,
        temperature=1,
        seed=3,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
@pytest.mark.parametrize("parameters", [{}, {"parameters": {}}], ids=str)
def test_without_parameters_they_are_objects(
    client: Client, choice: Any, parameters: dict[str, Any]
) -> None:
    tools = [{"type": "function", "function": {"name": "weather", **parameters}}]
    for seed in range(2):
        message = (
            client.chat(
                "Hello!", tools=tools, tool_choice=choice, max_tokens=60, temperature=1, seed=seed
            )
            .choices[0]
            .message
        )
        assert not message.content  # what max_tokens cuts off is no text
        for call in message.tool_calls or ():
            assert isinstance(json.loads(call.function.arguments), dict)


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_stop_string_in_a_call_leaves_no_text(client: Client, choice: Any) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": PLACE}}]
    answer = client.chat("Hello!", tools=tools, tool_choice=choice, max_tokens=99, stop=["city"])
    (choice_,) = answer.choices
    assert (choice_.finish_reason, choice_.message.content or "") == ("stop", "")
    assert not choice_.message.tool_calls
