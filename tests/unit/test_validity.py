"""The last check of finished texts, and the process that makes it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("llguidance")

from tests.unit.structured_inputs import LIMITS
from tests.unit.test_structural_tag import FREE, REGULAR
from vllm_diffusion.structured import check_service
from vllm_diffusion.structured.check_service import CheckService
from vllm_diffusion.structured.compile_process import verdict
from vllm_diffusion.structured.constraint import Constraint
from vllm_diffusion.structured.validity.check import is_cheap


def of(kind: Any, spec: Any) -> Constraint:
    return Constraint(kind, spec if isinstance(spec, str) else json.dumps(spec))


MEMBERS = {"a": {"type": "integer"}, "b": {"type": "string", "pattern": "^x+$"}}
OBJECT = {"type": "object", "properties": MEMBERS, "additionalProperties": False}
NAMES = {"patternProperties": {"^x": {"type": "null"}}, "additionalProperties": False}
OLD = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"const": 1}]}
WORDS = {"keywords": ["ab"], "without": ["no"], "min_chars": 2, "max_chars": 5}

CASES: list[tuple[Constraint, list[str], list[str]]] = [
    (of("json", OBJECT), ['{"a": 1, "b": "xx"}', "{}"], ['{"a": 1', '{"a": true}', '{"b": "y"}',
                                                        '{"c": 1}', "[]", ""]),
    (of("json", NAMES), ['{"x1": null}', "5"], ['{"x1": 1}', '{"y": null}']),
    (of("json", OLD), ["[1, 2]"], ["[2]"]),
    (of("json", {"multipleOf": 0.1}), ["0.3", "7"], ["0.35"]),
    (of("json", {"type": "integer"}), ["3", "3.0"], ["3.5", '"3"', "NaN", "Infinity"]),
    (of("json", {"const": {"a": 0.1}}), ['{"a": 0.1}', '{"a": 0.10}'], ['{"a": 0.2}']),
    (of("json", {"$defs": {"t": {"items": {"$ref": "#/$defs/t"}, "type": "array"}},
                 "$ref": "#/$defs/t"}), ["[[], [[]]]"], ["[[1]]"]),
    (of("json", "true"), ["1"], ["", "1 2"]),
    (of("json_object", ""), ['{"a": [1]}'], ["[]", '"a"', "{"]),
    (of("choice", ["a", "é"]), ["a", "é"], ["", "aé", "A"]),
    (of("regex", r"[a-z]+\d{2}|é"), ["ab12", "é"], ["ab1", "ab123", "", "ab12\n"]),
    (of("regex", "(a+)+b"), ["aab"], ["a" * 5000]),
    (of("grammar", 'root ::= "a" root | "b"'), ["aab", "b"], ["", "aa", "ba"]),
    (of("lexical", WORDS), ["ab", "xabx"], ["a", "abno", "ab1234"]),
]  # fmt: skip


@pytest.mark.parametrize(("constraint", "good", "bad"), CASES, ids=lambda v: str(v)[:60])
def test_verdicts(constraint: Constraint, good: list[str], bad: list[str]) -> None:
    assert [verdict(constraint, text, LIMITS) for text in good] == [("valid", "")] * len(good)
    assert [verdict(constraint, text, LIMITS)[0] for text in bad] == ["invalid"] * len(bad)


@pytest.mark.parametrize(("spec", "good", "bad"), [*REGULAR, *FREE], ids=lambda v: str(v)[:40])
def test_structural_tags(spec: dict[str, Any], good: list[str], bad: list[str]) -> None:
    """As the expressions and grammars have them; where free text ends is left open."""
    constraint = of("structural_tag", {"format": spec})
    assert [text for text in good if verdict(constraint, text, LIMITS) != ("valid", "")] == []
    if "any_text" in constraint.spec:
        return
    wrong = [text for text in bad if text != '{"a":1}']  # no schema asks for whitespace
    assert [text for text in wrong if verdict(constraint, text, LIMITS)[0] != "invalid"] == []


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (of("json", {"type": "array"}), "[" * 100_000),
        (of("json", {"type": "integer"}), "1" * 10_000),
        (of("structural_tag", {"format": {"type": "new"}}), "x"),
        (of("regex", "("), "x"),
        (of("structural_tag", {"format": {"type": "sequence", "elements": [
            {"type": "any_text"}] * 60}}), "x" * 5000),
    ],
    ids=lambda v: str(v)[:40],
)  # fmt: skip
def test_what_cannot_be_checked_is_not_called_wrong(constraint: Constraint, text: str) -> None:
    start = time.thread_time()
    found, why = verdict(constraint, text, LIMITS)
    assert found == "unchecked"
    assert why
    assert time.thread_time() - start < 2


def test_what_is_checked_without_a_process() -> None:
    """Nothing that may take long: the event loop waits for it."""
    plain = of("json", {"type": "object", "properties": {"a": {"enum": [1, 2]}}})
    call = {"type": "tag", "begin": "<", "content": {"type": "json_schema"}, "end": ">"}
    for cheap in (plain, of("choice", ["a"]), of("structural_tag", {"format": call})):
        assert is_cheap(cheap, '{"a": 1}')
        assert not is_cheap(cheap, "x" * 100_000)
    assert not is_cheap(plain, "[" + "1, " * 2000 + "1]")
    loose = [{"pattern": "x"}, {"$ref": "#"}, {"uniqueItems": True}, {"items": {"contains": True}}]
    for schema in loose:
        assert not is_cheap(of("json", schema), "1")
        content = {"type": "json_schema", "json_schema": schema}
        assert not is_cheap(of("structural_tag", {"format": {**call, "content": content}}), "<1>")
    assert not is_cheap(of("regex", "a"), "a")
    assert not is_cheap(of("grammar", 'root ::= "a"'), "a")


@pytest.fixture
def service() -> Iterator[CheckService]:
    made = CheckService(replace(LIMITS, check_seconds=60.0))
    yield made
    made.close()


def test_a_process_checks(service: CheckService) -> None:
    service.start().result()
    for constraint, good, bad in CASES:
        assert service.submit(constraint, good[0]).result() == ("valid", "")
        assert service.submit(constraint, bad[0]).result()[0] == "invalid"


def test_a_check_that_takes_too_long_ends_its_process(service: CheckService) -> None:
    """Patterns of names that ``unevaluatedProperties`` looks at are the library's own."""
    service.start().result()
    service.limits = service._process.limits = replace(LIMITS, check_seconds=0.3)
    slow = of("json", {"allOf": [{"patternProperties": {"^(a|aa)+$": True}}],
                       "unevaluatedProperties": True})  # fmt: skip
    found, why = service.submit(slow, json.dumps({"a" * 80 + "!": 1})).result()
    assert (found, why) == ("unchecked", "it takes more than 0.3 s")
    assert service._process.child is None
    service.limits = service._process.limits = replace(LIMITS, check_seconds=60.0)
    assert service.submit(of("choice", ["a"]), "a").result() == ("valid", "")


def test_a_process_that_was_killed(service: CheckService) -> None:
    service.start().result()
    child = service._process.child
    assert child is not None
    child.kill()
    child.wait()
    assert service.submit(of("choice", ["a"]), "a").result() == ("valid", "")


def test_a_process_that_does_not_start(
    service: CheckService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any) -> None:
        raise RuntimeError("it did not start")

    monkeypatch.setattr(check_service._CheckProcess, "_started", fail)
    found, why = service.submit(of("choice", ["a"]), "a").result()
    assert found == "unchecked"
    assert "it did not start" in why
