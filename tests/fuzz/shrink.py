"""Make a failing request smaller, as long as it fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.fuzz.case import Case

SECONDS = 20


def smaller_values(value: Any) -> Iterator[Any]:
    """The same JSON with one thing less, large parts first."""
    if isinstance(value, dict):
        for key in value:
            yield {other: member for other, member in value.items() if other != key}
        for key, member in value.items():
            for less in smaller_values(member):
                yield value | {key: less}
    elif isinstance(value, list):
        half = len(value) // 2
        if half > 1:
            yield value[:half]
            yield value[half:]
        for at in range(min(len(value), 20)):
            yield value[:at] + value[at + 1 :]
        for at, member in enumerate(value[:20]):
            for less in smaller_values(member):
                yield [*value[:at], less, *value[at + 1 :]]
    elif isinstance(value, str) and len(value) > 8:
        yield value[: len(value) // 2]
        yield value[len(value) // 2 :]


def with_constraint(case: Case, kind: str, value: Any) -> Case:
    """The case with another constraint, in its body as well."""
    body = dict(case.body)
    if "structured_outputs" in body:
        body["structured_outputs"] = {kind: value}
    else:
        form = body["response_format"]["json_schema"] | {"schema": value}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return replace(case, body=body, constraint={kind: value})


def smaller(case: Case) -> Iterator[Case]:
    """Cases with less in them; a constraint and what the judge holds it to change together."""
    kind = next(iter(case.constraint), None)
    if kind in ("json", "regex", "choice"):
        for value in smaller_values(case.constraint[kind]):
            yield with_constraint(case, kind, value)
    if not isinstance(case.body, dict):
        return
    constrains = {"structured_outputs", "response_format", "tools", "tool_choice"}
    fixed = constrains if case.constraint else set()
    for key in case.body:
        if key not in fixed and key not in ("prompt", "messages", "input"):
            body = {other: value for other, value in case.body.items() if other != key}
            yield replace(case, body=body)
    for key, value in case.body.items():
        if key not in fixed and not case.constraint:
            for less in smaller_values(value):
                yield replace(case, body=case.body | {key: less})


def shrink(case: Case, fails: Callable[[Case], bool], seconds: float = SECONDS) -> Case:
    """The smallest that was found in so many seconds."""
    deadline = time.monotonic() + seconds
    is_done = False
    while not is_done:
        is_done = True
        for less in smaller(case):
            if time.monotonic() > deadline:
                return case
            if fails(less):
                case, is_done = less, False
                break
    return case
