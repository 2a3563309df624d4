"""Prompts are fixed, disjoint between splits, and their answers pass their own check."""

import json
from random import Random

import pytest

from benchmarks.tiny.prompts import check, load_prompts
from benchmarks.tiny.splits import draw_many, split_of
from benchmarks.tiny.tasks.registry import TASKS


def key(sample) -> str:
    return json.dumps([sample.prompt_messages, sample.tools])


@pytest.mark.parametrize("task", TASKS)
def test_task_is_a_function_of_the_generator(task: str) -> None:
    assert TASKS[task](Random(3)) == TASKS[task](Random(3))
    assert TASKS[task](Random(3)).task == task


@pytest.mark.parametrize("split", ["validation", "test"])
def test_prompts_are_distinct_and_nested(split) -> None:
    few, many = load_prompts(split, 3), load_prompts(split, 8)
    assert few == many[: len(few)]
    assert len({key(sample) for sample in many}) == 8 * len(TASKS)
    assert all(split_of(sample) == split for sample in many)
    assert all(check(sample, sample.answer + "\n") for sample in many)
    assert not any(check(sample, sample.answer[:-1]) for sample in many)


def test_training_never_meets_evaluation_prompts() -> None:
    held_out = {key(s) for split in ("validation", "test") for s in load_prompts(split, 20)}
    assert not any(key(sample) in held_out for sample in draw_many("main/0", 2000))
    shared = {key(s) for s in load_prompts("validation", 20)}
    assert not shared & {key(s) for s in load_prompts("test", 20)}


def test_structured_answers_parse() -> None:
    for sample in load_prompts("validation", 10):
        if sample.task in ("json", "csv"):
            json.loads(sample.answer)
        if sample.task == "code":
            compile(sample.answer, "answer", "exec")
        if sample.task == "tool":
            for call in sample.answer.split("\n"):
                body = json.loads(call.removeprefix("<tool_call>").removesuffix("</tool_call>"))
                assert body["name"] in [tool["function"]["name"] for tool in sample.tools]
