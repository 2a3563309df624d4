"""What cannot be honoured is a 400 that names the field and the value; nothing is ignored.

After each, the next request is answered as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.server.client import Client

PROMPT = [20, 21, 22]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": {"type": "object"}},
}


@pytest.fixture(autouse=True)
def served_afterwards(client: Client) -> Iterator[None]:
    before = client.complete(PROMPT, max_tokens=20)
    yield
    assert client.complete(PROMPT, max_tokens=20) == before


def refusal(client: Client, **fields: Any) -> dict[str, Any]:
    """The error of a completion with these fields."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.complete(PROMPT, **fields)
    error = caught.value.body
    assert isinstance(error, dict)
    assert error["type"] == "invalid_request_error"
    assert isinstance(error["code"], str)
    return error


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("diffusion_threshold", "high", "finite number"),
        ("diffusion_threshold", "0.5", "finite number"),
        ("diffusion_threshold", [0.5], "finite number"),
        ("diffusion_threshold", -1, "from 0.0 to 1.0"),
        ("diffusion_threshold", 2, "from 0.0 to 1.0"),
        ("diffusion_max_steps", 0, "integer from 1"),
        ("diffusion_max_steps", 2.5, "integer from 1"),
        ("diffusion_max_steps", 2**62, "integer from 1"),
        ("diffusion_block_length", 3, "must divide the served canvas, which is 16"),
        ("diffusion_block_length", 32, "the served canvas is 16 tokens long"),
        ("diffusion_policy", "greedy", "one of confidence, entropy, margin, maskgit_plus"),
        ("diffusion_policy", 1, "one of confidence, entropy, margin, maskgit_plus"),
        ("diffusion_tau", 0.5, "known are diffusion_policy, diffusion_threshold"),
        ("diffusion_", 0.5, "known are diffusion_policy, diffusion_threshold"),
    ],
)
def test_decode_fields(client: Client, field: str, value: Any, remedy: str) -> None:
    error = refusal(client, **{field: value})
    assert error["param"] == field
    assert (
        f"{field}={value!r}" in error["message"] or f"{field}={float(value)!r}" in error["message"]
    )
    assert remedy in error["message"]


def test_a_threshold_outside_of_its_policys_range(client: Client) -> None:
    error = refusal(client, diffusion_policy="entropy", diffusion_threshold=1001)
    assert "diffusion_threshold=1001" in error["message"]
    assert "'entropy' takes a threshold from 0.0 to 1000.0" in error["message"]


@pytest.mark.parametrize(
    ("literal", "value"), [("NaN", "nan"), ("Infinity", "inf"), ("1e999", "inf")]
)
def test_numbers_that_json_does_not_have(client: Client, literal: str, value: str) -> None:
    status, body = client.post(
        "/v1/completions",
        f'{{"model": "{client.model}", "prompt": "a", '
        f'"vllm_xargs": {{"diffusion_threshold": {literal}}}}}',
    )
    assert status == 400
    assert body["error"]["param"] == "vllm_xargs.diffusion_threshold"
    assert f"diffusion_threshold={value}: it must be a finite number" in body["error"]["message"]


@pytest.mark.parametrize("number", ["1" * 400, "-1" * 1 + "0" * 400])
def test_numbers_that_no_machine_word_holds(client: Client, number: str) -> None:
    status, body = client.post(
        "/v1/completions",
        f'{{"model": "{client.model}", "prompt": "a", '
        f'"vllm_xargs": {{"diffusion_threshold": {number}}}}}',
    )
    assert status == 400, body


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("prompt_logprobs", 1, "is not supported for diffusion models: this model does not read"),
        ("thinking_token_budget", 5, "Please set --reasoning-parser"),
        ("allowed_token_ids", [], "allowed_token_ids"),
        ("allowed_token_ids", [10**6], "out-of-vocab"),
        ("logit_bias", {"1000000": 1.0}, "out-of-vocab"),
        ("min_tokens", 41, "min_tokens must be less than or equal to max_tokens=40"),
        ("logprobs", 1000, "greater than max allowed"),
        ("bad_words", [""], "bad_words cannot contain an empty string"),
    ],
)
def test_sampling_fields(client: Client, field: str, value: Any, words: str) -> None:
    error = refusal(client, max_tokens=40, **{field: value})
    assert words in error["message"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"response_format": SCHEMA, "min_tokens": 3}, "min_tokens=3 does not go together with"),
        ({"response_format": SCHEMA, "bad_words": ["a"]}, "bad_words=['a'] does not go together"),
        ({"response_format": SCHEMA, "ignore_eos": True}, "ignore_eos=True does not go together"),
        ({"structured_outputs": {"regex": "(["}}, "regex"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "one kind of constraint"),
        ({"structured_outputs": {"choice": []}}, "a list of texts that is not empty"),
        ({"structured_outputs": {"json": {"type": "nothing"}}}, "nothing"),
        ({"structured_outputs": {"grammar": "start: ???"}}, "rammar"),
        (
            {"structured_outputs": {"regex": "[a-c]{90}"}},
            "of all texts of structured_outputs.regex the shortest has",
        ),
        ({"structured_outputs": {"choice": ["0" * 40]}}, "has 41 tokens with the stop token"),
    ],
    ids=str,
)
def test_structured_outputs(client: Client, fields: dict[str, Any], words: str) -> None:
    assert words in refusal(client, max_tokens=40, **fields)["message"]


FOX = {"diffusion_keywords": ["fox"]}


@pytest.mark.parametrize(
    ("words", "fields", "message"),
    [
        ({"keywords": "fox"}, {}, "diffusion_keywords='fox' is not valid: it must be a list"),
        ({"keywords": ["foxes"], "without": ["ox"]}, {}, "'foxes' holds 'ox'"),
        ({"keywords": ["fox", "dog"], "max_chars": 5}, {}, "at least 6 characters"),
        ({"keywords": ["0" * 40]}, {}, "41 tokens with the stop token, and the output has 40"),
        ({"min_chars": 2000}, {}, "raise max_tokens"),
        ({"keywords": ["a"]}, {"structured_outputs": {"regex": "a"}}, "another form of the text"),
        ({"keywords": ["a"]}, {"response_format": SCHEMA}, "another form of the text"),
        ({"without": ["a"]}, {"bad_words": ["b"]}, "bad_words=['b'] does not go together with"),
        ({"max_chars": 9}, {"min_tokens": 2}, "min_tokens=2 does not go together with"),
        ({"keywords": ["a"]}, {"stop": ["b"]}, "it could end the text too early"),
    ],
    ids=str,
)
def test_lexicals(
    client: Client, words: dict[str, Any], fields: dict[str, Any], message: str
) -> None:
    xargs = {f"diffusion_{name}": value for name, value in words.items()}
    assert message in refusal(client, max_tokens=40, vllm_xargs=xargs, **fields)["message"]


def test_calls_have_words_of_their_own(client: Client) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    with pytest.raises(openai.BadRequestError, match=r"tools=.* two forms of the text"):
        client.chat("hi", tools=[tool], vllm_xargs=FOX)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"logprobs": True, "top_logprobs": 1000}, "greater than max allowed"),
        ({"logit_bias": {"1000000": 1.0}}, "out-of-vocab"),
        ({"structured_outputs": {"regex": "(["}}, "regex"),
        ({"diffusion_threshold": 2}, "diffusion_threshold=2"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_chat_refuses_alike(client: Client, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        client.chat("Hello!", **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"frequency_penalty": 0.0, "presence_penalty": 0, "repetition_penalty": 1.0},
        {"min_p": 0.0, "min_tokens": 0},
        {"logit_bias": {}, "bad_words": []},
        {"temperature": 1, "seed": -(2**63)},
        {"temperature": 1, "seed": 2**63 - 1},
        {"temperature": 1, "top_k": 2**31},
        {"temperature": 2, "top_k": -1, "top_p": 1.0},
        {"stop_token_ids": list(range(100, 300))},
        {"diffusion_max_steps": 2**31 - 1},
        {"diffusion_block_length": 1},
        {"diffusion_policy": "entropy", "diffusion_threshold": 1000},
        {"diffusion_policy": "static", "diffusion_threshold": 1, "diffusion_max_steps": 1},
    ],
    ids=lambda value: str(value)[:40],
)
def test_extreme_and_neutral_values_are_served(client: Client, fields: dict[str, Any]) -> None:
    answer = client.complete(PROMPT, max_tokens=20, **fields)
    assert answer.finish_reason in ("length", "stop")


def test_refusals_among_other_requests(client: Client) -> None:
    """A stream that is under way does not notice."""
    whole = client.complete(PROMPT, max_tokens=200, ignore_eos=True)
    stream = client.completion(PROMPT, stream=True, max_tokens=200, ignore_eos=True)
    token_ids: list[int] = []
    for chunk in stream:
        refusal(client, diffusion_threshold=2)
        token_ids += chunk.to_dict()["choices"][0]["token_ids"]
    assert token_ids == whole.token_ids
