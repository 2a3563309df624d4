"""Extraction prompts, and the forms in which their answers can be asked for.

A question is a sentence of facts and the names of the fields wanted. ``SETS`` has two kinds: the
fields of the training tasks, and names made up for each prompt, so that no schema was seen before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from ..tiny.sample import Sample
from ..tiny.splits import draw
from ..tiny.tasks.calls import function_name
from ..tiny.tasks.tools import declare_fields

STRING = r'"[^"\\\n]*"'
INTEGER = r"(0|[1-9][0-9]*)"


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt with its right answer."""

    messages: list[dict[str, Any]]
    fields: dict[str, str | int]
    function: str
    """Name of the function whose arguments are the fields."""

    @property
    def types(self) -> dict[str, str]:
        return {n: "integer" if isinstance(v, int) else "string" for n, v in self.fields.items()}

    @property
    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {name: {"type": one} for name, one in self.types.items()},
            "required": list(self.fields),
            "additionalProperties": False,
        }

    @property
    def regex(self) -> str:
        parts = [
            f'"{re.escape(name)}": {INTEGER if one == "integer" else STRING}'
            for name, one in self.types.items()
        ]
        return r"\{" + ", ".join(parts) + r"\}"

    @property
    def grammar(self) -> str:
        """In Lark's notation, which both engines' back ends read."""
        parts = [
            f'"\\"{name}\\": " {"INTEGER" if one == "integer" else "STRING"}'
            for name, one in self.types.items()
        ]
        body = ' ", " '.join(parts)
        return f'start: "{{" {body} "}}"\nSTRING: /{STRING}/\nINTEGER: /{INTEGER}/\n'


def ask(sample: Sample, index: int) -> Question:
    """The question of a prompt; its function's name is drawn from its number."""
    name = function_name(Random(f"forms/{index}"))
    return Question(sample.prompt_messages, json.loads(sample.answer), name)


def load(task: str, num_prompts: int) -> list[Question]:
    """Distinct test prompts of an extraction task."""
    rng = Random(f"forms/{task}")
    found: dict[str, Question] = {}
    while len(found) < num_prompts:
        sample = draw(rng, task, "test")
        found.setdefault(sample.prompt_messages[-1]["content"], ask(sample, len(found)))
    return list(found.values())


SETS = {"fields of the training tasks": "json", "fields never seen": "extract"}


def _tool(question: Question, strict: bool) -> dict[str, Any]:
    tool = declare_fields(question.function, question.types)
    if strict:
        tool["function"]["strict"] = True
        tool["function"]["parameters"]["additionalProperties"] = False
    return tool


def _call(question: Question, choice: str, strict: bool = False) -> dict[str, Any]:
    named = {"type": "function", "function": {"name": question.function}}
    return {
        "tools": [_tool(question, strict)],
        "tool_choice": named if choice == "named" else choice,
    }


def _response_format(question: Question) -> dict[str, Any]:
    schema = {"name": "answer", "schema": question.schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


FORMS: dict[str, Callable[[Question], dict[str, Any]]] = {
    "nothing": lambda q: {},
    "response_format": _response_format,
    "regex": lambda q: {"extra_body": {"structured_outputs": {"regex": q.regex}}},
    "Lark grammar": lambda q: {"extra_body": {"structured_outputs": {"grammar": q.grammar}}},
    "tool, auto": lambda q: _call(q, "auto"),
    "tool, named": lambda q: _call(q, "named"),
    "tool, named, strict": lambda q: _call(q, "named", strict=True),
    "tool, required": lambda q: _call(q, "required"),
    "tool, required, strict": lambda q: _call(q, "required", strict=True),
}
