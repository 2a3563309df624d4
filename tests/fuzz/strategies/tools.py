"""Chats with tools: offered, required, named; strict or not."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.strategies import texts
from tests.fuzz.strategies.json_schemas import broken, keyword_schemas, ordinary

CHAT = "What is the weather in oslo on friday? Use a tool."
ODD_CHOICES: list[Any] = [
    "nothing",
    "",
    5,
    {},
    {"type": "function"},
    {"type": "function", "function": {"name": "unknown"}},
]


@st.composite
def functions(draw: st.DrawFn, name: str) -> dict[str, Any]:
    function: dict[str, Any] = {"name": name, "description": "does something"}
    if draw(st.integers(0, 7)):
        schemas = st.one_of(ordinary(1), ordinary(1), ordinary(0), keyword_schemas(), broken())
        function["parameters"] = draw(schemas)
    if draw(st.booleans()):
        function["strict"] = draw(st.booleans())
    return function


@st.composite
def tool_cases(draw: st.DrawFn) -> Case:
    names = draw(
        st.lists(
            st.sampled_from(["f", "get_weather", "send_mail", "a.b", "x-1", "é"]),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    offered = [draw(functions(name)) for name in names]
    choice: Any = draw(st.sampled_from(["auto", "required", "required", "named", "named", "odd"]))
    constraint: dict[str, Any] = {"tools": {"choice": choice, "functions": offered}}
    said: Any = choice
    if choice == "named":
        constraint["tools"]["choice"] = names[0]
        said = {"type": "function", "function": {"name": names[0]}}
    elif choice == "odd":
        said, constraint = draw(st.sampled_from(ODD_CHOICES)), {}
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": draw(st.sampled_from([CHAT, "hi"]))}],
        "tools": [{"type": "function", "function": one} for one in offered],
        "tool_choice": said,
        "max_tokens": draw(st.sampled_from([150, 300])),
        "temperature": draw(st.sampled_from([0, 1.0, 1.5])),
        "seed": draw(st.integers(0, 99)),
    }
    if draw(st.integers(0, 3)) == 0:
        body["parallel_tool_calls"] = draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        body["stream"] = True
    if draw(st.integers(0, 9)) == 0:
        body["stop"] = draw(texts.words)
        constraint = {}
    return Case("tools", "/v1/chat/completions", body, constraint)
