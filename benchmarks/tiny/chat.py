"""The chat format: a Jinja template for servers and the same thing in Python for training.

Tools are listed one a line as ``name(argument, ...)`` in the system message; the model answers
with ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``. A unit test holds the two
renderings equal.
"""

import json
from typing import Any

from .sample import Message

CHAT_TEMPLATE = """\
{%- set has_system = messages and messages[0].role == 'system' -%}
{%- if tools or has_system -%}
{{- '<|im_start|>system\\n' -}}
{%- if has_system -%}
{{- messages[0].content + ('\\n' if tools else '') -}}
{%- endif -%}
{%- if tools -%}
{{- 'Tools:' -}}
{%- for tool in tools -%}
{%- set function = tool.function if tool.function is defined else tool -%}
{%- set arguments = (function.parameters or {}).get('properties') or {} -%}
{{- '\\n' + function.name + '(' + arguments.keys() | join(', ') + ')' -}}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if not (loop.first and has_system) -%}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') -}}
{%- if message.tool_calls -%}
{%- for call in message.tool_calls -%}
{%- set function = call.function if call.function is defined else call -%}
{{- '\\n' if message.content or not loop.first else '' -}}
{{- '<tool_call>{"name": "' + function.name + '", "arguments": ' -}}
{{- function.arguments if function.arguments is string else function.arguments | tojson -}}
{{- '}</tool_call>' -}}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""


def _render_tool_calls(message: Message) -> str:
    calls = []
    for call in message.get("tool_calls") or []:
        function = call.get("function", call)
        arguments = function["arguments"]
        body = arguments if isinstance(arguments, str) else json.dumps(arguments)
        calls.append(
            f'<tool_call>{{"name": "{function["name"]}", "arguments": {body}}}</tool_call>'
        )
    joined = "\n".join(calls)
    return "\n" + joined if joined and message.get("content") else joined


def _list_tool(tool: dict[str, Any]) -> str:
    function = tool.get("function", tool)
    arguments = (function.get("parameters") or {}).get("properties", {})
    return f"{function['name']}({', '.join(arguments)})"


def render(messages: list[Message], tools: list[dict[str, Any]]) -> str:
    """The prompt text up to the point where the assistant answers."""
    head = [messages[0]["content"]] if messages[0]["role"] == "system" else []
    rest = messages[len(head) :]
    if tools:
        head.append("\n".join(["Tools:", *map(_list_tool, tools)]))
    system = "\n".join(head)
    parts = [f"<|im_start|>system\n{system}<|im_end|>\n"] if head else []
    parts += [
        f"<|im_start|>{m['role']}\n{m.get('content') or ''}{_render_tool_calls(m)}<|im_end|>\n"
        for m in rest
    ]
    return "".join(parts) + "<|im_start|>assistant\n"
