"""What clients ask, with the one right answer of each: prompts that the bundled model knows.

They are of ``benchmarks/tiny``; the scripts, which other interpreters run, read them from a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.tiny.harness import write, write_choices
from benchmarks.tiny.prompts import load_prompts
from benchmarks.tiny.sample import Sample
from benchmarks.tiny.tasks.fim import GAP

MODEL = "tiny-diffusion"
CHAT_TASKS = ("code", "sql", "copy")
MOST_TRIED = 20
PER_TASK = 4
"""Of the tasks for lm-eval; ``tiny_choice`` needs four right answers for its choices."""


def first(task: str) -> list[Sample]:
    return load_prompts("validation", MOST_TRIED, (task,))


def question_of(sample: Sample) -> str:
    text: str = sample.prompt_messages[-1]["content"]
    return text


def record() -> dict[str, Any]:
    """Fields to find in a text, all of them words."""
    samples = ((sample, json.loads(sample.answer)) for sample in first("json"))
    sample, answer = next(
        (sample, found)
        for sample, found in samples
        if all(isinstance(value, str) for value in found.values())
    )
    schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in answer},
        "required": list(answer),
        "additionalProperties": False,
    }
    return {"question": question_of(sample), "object": answer, "schema": schema}


def call() -> dict[str, Any]:
    """A message that needs one call, with the functions that are offered."""
    sample = next(each for each in first("tool") if each.answer.count("<tool_call>") == 1)
    body = sample.answer.strip().removeprefix("<tool_call>").removesuffix("</tool_call>")
    return {"question": question_of(sample), "tools": sample.tools} | json.loads(body)


def infill() -> dict[str, str]:
    """A program with a gap in its middle."""
    for sample in first("fim"):
        prefix, _, suffix = question_of(sample).partition("\n")[2].partition(GAP)
        if prefix.strip() and suffix.strip():
            return {"prefix": prefix, "suffix": suffix, "answer": sample.answer}
    raise LookupError("no prompt has its gap in the middle")


def asked() -> dict[str, Any]:
    """All of it."""
    chats = [first(task)[0] for task in CHAT_TASKS]
    return {
        "model": MODEL,
        "chats": [{"question": question_of(each), "answer": each.answer} for each in chats],
        "record": record(),
        "call": call(),
        "infill": infill(),
    }


def prepare(root: Path, place: Path) -> Path:
    """Write the questions, and the tasks that lm-eval reads; where the questions are."""
    place.mkdir(parents=True, exist_ok=True)
    write(root / "build" / "lm-eval" / "tiny.jsonl", 1)
    write_choices(root / "build" / "lm-eval" / "tiny_choice.jsonl", PER_TASK)
    file = place / "asked.json"
    file.write_text(json.dumps(asked(), indent=1))
    return file
