"""The Jinja template and its Python twin agree; the tokenizer takes any text."""

import pytest

from benchmarks.tiny.chat import CHAT_TEMPLATE, render
from benchmarks.tiny.prompts import load_prompts
from benchmarks.tiny.tasks.tools import declare

jinja2 = pytest.importorskip("jinja2")


def bare_tool(**fields) -> dict:
    return {"type": "function", "function": {"name": "bare", **fields}}


CALL = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
CONVERSATIONS = [
    ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}], []),
    (
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "yes", "tool_calls": [CALL, CALL]},
            {"role": "tool", "content": "42"},
            {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        ],
        [declare("set_timer"), bare_tool(), bare_tool(parameters={"type": "object"})],
    ),
]


def render_template(messages, tools) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(CHAT_TEMPLATE)
    return template.render(messages=messages, tools=tools, add_generation_prompt=True)


@pytest.mark.parametrize(("messages", "tools"), CONVERSATIONS)
def test_conversations_render_alike(messages, tools) -> None:
    assert render_template(messages, tools) == render(messages, tools)


def test_task_prompts_render_alike() -> None:
    for sample in load_prompts("validation", 3):
        tools = sample.tools or None
        expected = render(sample.prompt_messages, sample.tools)
        assert render_template(sample.prompt_messages, tools) == expected
