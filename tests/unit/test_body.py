"""Bodies that Python's JSON reads and nothing behind it does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vllm_diffusion.server.body import MAX_NESTING, BodyError, check_body


def refusal(body: str | bytes) -> BodyError:
    with pytest.raises(BodyError) as caught:
        check_body(body if isinstance(body, bytes) else body.encode())
    return caught.value


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have(number: str) -> None:
    error = refusal(f'{{"logit_bias": {{"5": {number}}}}}')
    assert (error.param, error.code) == ("logit_bias.5", "invalid_value")
    assert str(error).endswith("it must be a finite number")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"stop": "\\ud800"}', "stop"),
        ('{"messages": [{"content": [{"text": "a\\udfff"}]}]}', "messages[0].content[0].text"),
        ('{"response_format": {"json_schema": {"schema": {"enum": ["\\uD800"]}}}}', None),
        ('{"a\\ud800": 1}', "a name in the body"),
    ],
)
def test_halves_of_surrogate_pairs(body: str, param: str | None) -> None:
    error = refusal(body)
    assert "half of a surrogate pair" in str(error)
    assert param in (error.param, None)


def test_integers_that_no_message_holds() -> None:
    assert refusal('{"stream_interval": 100000000000000000000}').param == "stream_interval"
    assert refusal(f'{{"seed": {"9" * 5000}}}').code == "invalid_value"
    for field in ("schema", "parameters", "input_schema"):
        check_body(f'{{"a": {{"{field}": {{"maximum": {10**30}}}}}}}'.encode())
    check_body(f'{{"seed": {2**64 - 1}, "priority": {-(2**63)}}}'.encode())


def test_nesting() -> None:
    deep: Any = 1
    for _ in range(MAX_NESTING):
        deep = [deep]
    check_body(json.dumps(deep).encode())
    for body in (json.dumps([deep]), "[" * 10000, '{"a":' * 10000 + "1" + "}" * 10000):
        assert f"more than {MAX_NESTING} levels" in str(refusal(body))
    check_body(json.dumps({"prompt": "[" * 10**4, "a": "\\" * 99 + '"[{'}).encode())
    check_body(json.dumps({"prompt": [[1, 2]] * 10**3}).encode())


def test_what_is_no_utf_8() -> None:
    assert str(refusal(b'{"prompt": "\xff"}')).startswith("the body is not UTF-8: byte 12")


@pytest.mark.parametrize(
    "body",
    ["", "{", '{"a": NaN', "5", '{"a": "NaN \\ud83d\\ude00", "b": 1e10, "c": 12345678901234}'],
)
def test_what_is_left_to_others(body: str) -> None:
    check_body(body.encode())
