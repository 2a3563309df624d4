"""What is wrong with an answer: everything that a client could hold against the server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from lark import Lark
from lark.exceptions import LarkError

from tests.fuzz import instances
from tests.fuzz.case import Answer, Case, Finding

ENDS = {"stop", "length", "tool_calls", "repetition"}
FULL = {"stop", "tool_calls"}
MAX_ECHO = 200
MAX_PARSED = 600
"""Characters of a text that Earley's algorithm is asked about."""


def judge(case: Case, answer: Answer) -> list[Finding]:
    """All faults of an answer; what only a second request can show is ``is_cut``'s."""
    return [Finding(fault, detail, case, answer) for fault, detail in faults(case, answer)]


def is_cut(case: Case, answer: Answer) -> bool:
    """Whether a constrained text stopped because of ``max_tokens``."""
    if answer.status != 200 or not case.constraint:
        return False
    return any(reason == "length" for reason, _ in choices(case, answer))


def faults(case: Case, answer: Answer) -> Iterator[tuple[str, str]]:
    if answer.status == 0:
        yield "hang", answer.text
    elif answer.status >= 500:
        yield "5xx", answer.text[:300]
    elif answer.status >= 400:
        yield from refusal_faults(case, answer)
    elif case.is_stream:
        yield from stream_faults(answer)
    if answer.status == 200 and case.constraint:
        for reason, message in choices(case, answer):
            yield from text_faults(case, reason, message)


def refusal_faults(case: Case, answer: Answer) -> Iterator[tuple[str, str]]:
    """OpenAI's envelope: an object with a message, a type, and what is wrong."""
    try:
        error = json.loads(answer.text)["error"]
        message, kind = error["message"], error["type"]
    except (ValueError, KeyError, TypeError):
        yield "envelope", answer.text[:200]
        return
    if not (isinstance(message, str) and message and isinstance(kind, str)):
        yield "envelope", answer.text[:200]
        return
    for value in long_texts(case.body):
        if value[: MAX_ECHO + 1] in message:
            yield "echo", f"{len(message)} characters: {message[:120]}"
            return


def long_texts(value: Any) -> Iterator[str]:
    """Strings of a request that an error must not repeat, without recursion."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str) and len(one) > MAX_ECHO:
            yield one
        elif isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list):
            left += one


def events(answer: Answer) -> list[Any]:
    """The JSON of a stream's events."""
    lines = re.findall(r"^data: (.*)$", answer.text, re.M)
    return [json.loads(line) for line in lines if line != "[DONE]"]


def stream_faults(answer: Answer) -> Iterator[tuple[str, str]]:
    try:
        found = events(answer)
    except ValueError as error:
        yield "stream", f"an event that is no JSON: {error}"
        return
    if not found:
        yield "stream", f"no event: {answer.text[:200]!r}"
        return
    kinds = {one.get("type") for one in found if isinstance(one, dict)}
    errors = [one for one in found if "error" in (one, one.get("type")) or one.get("error")]
    if errors and errors[0] is found[0]:
        yield "stream", f"a refusal with status 200: {json.dumps(errors[0])[:200]}"
    ends = {"message_stop", "response.completed", "response.incomplete", "response.failed"}
    if not errors and "data: [DONE]" not in answer.text and not kinds & ends:
        yield "stream", f"no end: {answer.text[-200:]!r}"


Choice = tuple[str | None, dict[str, Any]]


def choices(case: Case, answer: Answer) -> list[Choice]:
    """How each choice ended, and its message with whole ``content`` and ``tool_calls``."""
    try:
        if not case.is_stream:
            found = json.loads(answer.text)["choices"]
            return [(one["finish_reason"], one.get("message") or one) for one in found]
        return gathered(events(answer))
    except (ValueError, KeyError, TypeError):
        return []


def gathered(found: list[Any]) -> list[Choice]:
    """A stream's chunks put together by choice."""
    whole: dict[int, tuple[str | None, dict[str, Any]]] = {}
    for event in found:
        for one in event.get("choices") or []:
            reason, message = whole.get(one["index"], (None, {"content": "", "tool_calls": []}))
            delta = one.get("delta") or {"content": one.get("text")}
            message["content"] += delta.get("content") or ""
            for call in delta.get("tool_calls") or []:
                calls = message["tool_calls"]
                while len(calls) <= call["index"]:
                    calls.append({"function": {"name": "", "arguments": ""}})
                function = calls[call["index"]]["function"]
                for key in function:
                    function[key] += call["function"].get(key) or ""
            whole[one["index"]] = (one.get("finish_reason") or reason, message)
    return list(whole.values())


def text_faults(
    case: Case, reason: str | None, message: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    if reason not in ENDS and not (reason is None and case.is_stream):
        yield "finish reason", f"{reason!r}"
    if reason not in FULL:
        return
    text = message.get("text")
    text = message.get("content") if text is None else text
    try:
        why = broken(case.constraint, text or "", message.get("tool_calls") or [])
    except instances.NoSchemaError as error:
        yield "served", str(error)
        return
    if why:
        yield "invalid", f"{why}: {(text or json.dumps(message.get('tool_calls')))[:200]!r}"


def broken(constraint: dict[str, Any], text: str, calls: list[Any]) -> str | None:
    """Why a finished text breaks its constraint; a constraint of one key.

    Raises:
        NoSchemaError: there is nothing to hold it to, so it should not have been served.
    """
    kind, value = next(iter(constraint.items()))
    if kind == "json":
        return instances.problem(value, text)
    if kind == "regex":
        return None if full_match(value, text) else "no match"
    if kind == "choice":
        return None if text in value else "none of the choices"
    if kind == "lark":
        return None if len(text) > MAX_PARSED or parses(value, text) else "not in the language"
    if kind == "tags":
        return tags_problem(value, text)
    return calls_problem(value, calls)


def full_match(regex: str, text: str) -> bool:
    """In either flavour of Python; what Python cannot read, this judge cannot blame."""
    try:
        return bool(re.fullmatch(regex, text) or re.fullmatch(regex, text, re.ASCII))
    except (re.error, RecursionError, OverflowError):
        return True


def parses(grammar: str, text: str) -> bool:
    """Whether some way to cut the text into terminals is in the language."""
    try:
        Lark(grammar, parser="earley", lexer="dynamic_complete").parse(text)
    except LarkError:
        return False
    return True


def tags_problem(structures: list[dict[str, Any]], text: str) -> str | None:
    """Whatever stands behind a tag's beginning is an instance, and the tag ends."""
    for one in structures:
        for rest in text.split(one["begin"])[1:]:
            inside, end, _ = rest.partition(one["end"])
            if not end:
                return f"{one['begin']!r} does not end"
            if why := instances.problem(one["schema"], inside):
                return why
    return None


def calls_problem(wanted: dict[str, Any], calls: list[Any]) -> str | None:
    """Calls by the tools that were offered; ``auto`` may do without."""
    if not calls:
        return None if wanted["choice"] == "auto" else "no call, though one was asked for"
    parameters = {one["name"]: one.get("parameters", {}) for one in wanted["functions"]}
    for call in calls:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        if wanted["choice"] == "auto":
            continue  # free text, of which the parser makes what it can
        if name not in parameters:
            return f"no such function: {name!r}"
        if wanted["choice"] not in ("required", name):
            return f"another function: {name!r}"
        try:
            is_object = isinstance(json.loads(arguments), dict)
        except ValueError:
            return f"arguments of {name!r} are no JSON: {arguments[:80]!r}"
        if not is_object:
            return f"arguments of {name!r} are no object: {arguments[:80]!r}"
        if why := instances.problem(parameters[name], arguments):
            return f"arguments of {name!r}: {why}"
    return None
