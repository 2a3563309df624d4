"""The judge itself: it blames what is wrong, and nothing else; runs can be repeated."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.fuzz import instances
from tests.fuzz.case import Answer, Case
from tests.fuzz.draw import cases
from tests.fuzz.judge import faults, is_cut
from tests.fuzz.shrink import shrink
from tests.structured.suite import groups

# What needs the network, another dialect, or what a judge is free to think.
OTHER = ("refRemote", "vocabulary", "optional/")


def completion(text: str, reason: str = "stop") -> Answer:
    choice = {"text": text, "finish_reason": reason, "index": 0}
    return Answer(200, json.dumps({"choices": [choice]}), 0.1)


def calls(*arguments: str) -> Answer:
    made = [{"function": {"name": "f", "arguments": one}} for one in arguments]
    message = {"content": None, "tool_calls": made}
    choice = {"message": message, "finish_reason": "tool_calls", "index": 0}
    return Answer(200, json.dumps({"choices": [choice]}), 0.1)


def refusal(message: str) -> Answer:
    error = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
    return Answer(400, json.dumps({"error": error}), 0.1)


def found(answer: Answer, body: Any = None, **constraint: Any) -> list[str]:
    case = Case("test", "/v1/completions", body or {}, constraint)
    return [fault for fault, _ in faults(case, answer)]


def test_it_agrees_with_the_official_suite() -> None:
    """Of each instance of the suite, whether it is valid; schemas that refer nowhere aside."""
    num_judged, wrong = 0, []
    for group in groups():
        if group.keyword.startswith(OTHER):
            continue
        for instance, is_valid in group.tests:
            try:
                why = instances.problem(group.schema, json.dumps(instance))
            except instances.NoSchemaError:
                continue
            num_judged += 1
            if (why is None) != is_valid:
                wrong.append((group.keyword, group.description, instance))
    assert not wrong
    assert num_judged > 1200


def test_the_draft_that_a_schema_names_is_asked() -> None:
    schema = {"unevaluatedProperties": False}  # a keyword since 2019-09
    draft_7 = {"$schema": "http://json-schema.org/draft-07/schema#"}
    assert found(completion('{"a": 1}'), json=schema | draft_7) == []
    assert found(completion('{"a": 1}'), json=schema) == ["invalid"]


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"multipleOf": 0.01}, "0.07"),
        ({"type": "integer"}, "1.0"),
        ({"type": "string", "pattern": r"^\d$"}, '"٣"'),
        ({"type": "string", "format": "date"}, '"x"'),
    ],
)
def test_what_can_be_argued_about_is_not_blamed(schema: Any, text: str) -> None:
    assert found(completion(text), json=schema) == []


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "NaN"),
        ({}, "{'a': 1}"),
        ({}, '{"a": 1} '[:-2]),
        ({"type": "string", "pattern": "^a$"}, '"a\\n"'),
        ({"type": "integer", "maximum": 2**63}, str(2**63 + 1)),
        ({"multipleOf": 0.01}, "0.075"),
        ({"if": {"type": "object"}, "then": {"required": ["b"]}}, "{}"),
    ],
)
def test_an_invalid_text_is_blamed(schema: Any, text: str) -> None:
    assert found(completion(text), json=schema) == ["invalid"]
    assert found(completion(text, "length"), json=schema) == []


def test_a_schema_that_is_none_must_not_be_served() -> None:
    for schema in ({"minLength": -1}, {"$ref": "#"}, {"$ref": "#/nowhere"}, {"type": "text"}):
        assert found(completion('""'), json=schema) == ["served"]
        assert found(refusal("it is no schema"), json=schema) == []


def test_other_constraints() -> None:
    assert found(completion("ab"), regex="a|b") == ["invalid"]
    assert found(completion("b"), regex="a|b") == []
    assert found(completion("é"), choice=["ß"]) == ["invalid"]
    grammar = 'start: "(" start ")" | "x"\n'
    assert found(completion("((x)"), lark=grammar) == ["invalid"]
    assert found(completion("((x))"), lark=grammar) == []
    tags = [{"begin": "<a>", "schema": {"type": "integer"}, "end": "</a>"}]
    assert found(completion("so <a>7</a> it is"), tags=tags) == []
    assert found(completion("so <a>x</a> it is"), tags=tags) == ["invalid"]
    assert found(completion("so <a>7"), tags=tags) == ["invalid"]


def test_calls_are_objects_that_the_parameters_allow() -> None:
    parameters = {"type": "object", "required": ["a"]}
    tools = {"choice": "required", "functions": [{"name": "f", "parameters": parameters}]}
    assert found(calls('{"a": 1}'), tools=tools) == []
    for arguments in ("{}", '"x"', "null", '{"a": '):
        assert found(calls('{"a": 1}', arguments), tools=tools) == ["invalid"]
    assert found(calls(), tools=tools) == ["invalid"]
    assert found(calls(), tools=tools | {"choice": "auto"}) == []
    assert found(calls('{"a": 1}'), tools=tools | {"choice": "g"}) == ["invalid"]


def test_errors() -> None:
    assert found(Answer(500, "", 0.1)) == ["5xx"]
    assert found(Answer(0, "timed out", 60.0)) == ["hang"]
    assert found(Answer(404, '{"detail": "Not Found"}', 0.1)) == ["envelope"]
    assert found(refusal("")) == ["envelope"]
    assert found(refusal("stop: 'zzz...'"), {"stop": "z" * 900}) == []
    assert found(refusal("stop: " + "z" * 900), {"stop": "z" * 900}) == ["echo"]
    assert found(completion("x", "error"), json={}) == ["finish reason"]


def test_streams() -> None:
    case = Case("test", "/v1/completions", {"stream": True}, {"regex": "ab"})

    def stream(*events: Any, end: str = "data: [DONE]\n\n") -> list[str]:
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + end
        return [fault for fault, _ in faults(case, Answer(200, text, 0.1))]

    chunks = [{"choices": [{"index": 0, "text": part, "finish_reason": None}]} for part in "ab"]
    last = {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    assert stream(*chunks, last) == []
    assert stream(*chunks[:1], last) == ["invalid"]
    assert stream(*chunks, end="") == ["stream"]
    assert stream({"error": {"message": "no"}}) == ["stream"]
    assert stream(end="") == ["stream"]


def test_a_cut_text_is_looked_into() -> None:
    case = Case("test", "/v1/completions", {"max_tokens": 4}, {"regex": "a+"})
    assert is_cut(case, completion("aaa", "length"))
    assert not is_cut(case, completion("aaa"))


def test_a_seed_draws_the_same_cases() -> None:
    """With values that are no JSON in the standard's eyes, and files that can be read back."""
    first, again = (list(itertools.islice(cases(5), 40)) for _ in range(2))
    assert [case.name for case in first] == [case.name for case in again]
    assert len({case.name for case in first}) == 40
    for case in first:
        read = Case.from_json(json.loads(json.dumps(case.to_json())))
        assert read.name == case.name


def test_a_failing_request_is_made_smaller() -> None:
    """Of the schema, only what it takes is left, in the body and for the judge."""
    properties = {name: {"type": "string", "title": name} for name in "abcdef"}
    properties["c"]["pattern"] = "x"
    schema = {"type": "object", "properties": properties, "required": list("abc")}
    body = {"prompt": "hi", "seed": 7, "structured_outputs": {"json": schema}}

    def fails(case: Case) -> bool:
        assert case.constraint == case.body["structured_outputs"]
        return "pattern" in json.dumps(case.constraint)

    least = shrink(Case("schema", "/v1/completions", body, {"json": schema}), fails)
    assert least.body["structured_outputs"] == {"json": {"properties": {"c": {"pattern": "x"}}}}
    assert least.body.keys() == {"prompt", "structured_outputs"}
