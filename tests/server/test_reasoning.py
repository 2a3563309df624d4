"""A model that thinks: a random one, whose thoughts end where they must.

Its chat template thinks unless it is told not to, as Qwen3's; the server has a reasoning parser.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from tests.checkpoints import sdar
from tests.checkpoints.tokenizer import teach_thinking
from tests.server.client import Client, diffusion_of
from tests.server.conftest import healthy
from tests.server.process import ServerProcess

MAX_LEN = 384
SERVER_ARGS = (
    *("--dtype", "float32"),
    "--enforce-eager",
    *("--max-model-len", str(MAX_LEN)),
    *("--max-num-seqs", "4"),
    *("--kv-cache-memory-bytes", str(16 << 20)),
    *("--reasoning-parser", "qwen3"),
    # A block a step: nobody minds what random weights say.
    *("--additional-config", '{"diffusion": {"threshold": 0.0, "block_length": 16}}'),
)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "is": {"type": "boolean"}},
    "required": ["name", "is"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
LONG = {"ignore_eos": True}
"""Answers are as long as they may be."""


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = sdar.write(
        tmp_path_factory.mktemp("models") / "thinking",
        block_size=16,
        tokenizer=True,
    )
    process = ServerProcess(teach_thinking(folder), folder / "log", *SERVER_ARGS)
    try:
        process.wait_until_healthy()
        yield process
    finally:
        process.stop()


@pytest.fixture
def client(thinking: ServerProcess) -> Iterator[Client]:
    yield from healthy(thinking)


def ask(client: Client, is_stream: bool = False, **fields: Any) -> dict[str, Any]:
    """Thoughts, answer, and what the response counts, whole or put together from a stream."""
    options = {"stream_options": {"include_usage": True}} if is_stream else {}
    response = client.chat("Hello there!", stream=is_stream, **fields | options)
    parts: dict[str, Any] = {"reasoning": "", "content": "", "reason": None}
    for part in response if is_stream else [response]:
        found = part.to_dict()
        for choice in found["choices"]:
            message = choice["delta" if is_stream else "message"]
            parts["reasoning"] += message.get("reasoning") or ""
            parts["content"] += message.get("content") or ""
            parts["reason"] = choice["finish_reason"] or parts["reason"]
        if usage := found.get("usage"):
            parts["tokens"] = usage["completion_tokens"]
            parts["thoughts"] = usage["completion_tokens_details"]["reasoning_tokens"]
            parts["room"] = MAX_LEN - usage["prompt_tokens"]
            parts["account"] = diffusion_of(found)
    return parts


each_way = pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])


@each_way
def test_thoughts_without_a_budget_take_all(client: Client, is_stream: bool) -> None:
    """What ``max_tokens`` has always meant; so for the tests below it is the budget that counts."""
    found = ask(client, is_stream, max_tokens=40, **LONG)
    assert (found["tokens"], found["thoughts"], found["content"]) == (40, 40, "")
    assert found["reason"] == "length"


@each_way
@pytest.mark.parametrize("budget", [0, 1, 12, 16, 30])
def test_a_budget_is_within_max_tokens(client: Client, budget: int, is_stream: bool) -> None:
    found = ask(client, is_stream, max_tokens=50, thinking_token_budget=budget, **LONG)
    assert (found["tokens"], found["thoughts"]) == (50, budget)
    assert bool(found["reasoning"]) == (budget > 0)
    assert found["content"]


@each_way
def test_the_same_text_whole_and_streamed(client: Client, is_stream: bool) -> None:
    fields = {"max_tokens": 50, "thinking_token_budget": 10, **LONG}
    whole, streamed = ask(client, **fields), ask(client, True, **fields)
    for part in ("reasoning", "content", "reason", "tokens", "thoughts"):
        assert whole[part] == streamed[part]


@each_way
@pytest.mark.parametrize("level", ["minimal", "low", "medium", "high", "xhigh"])
def test_thoughts_beside_max_tokens(client: Client, level: str, is_stream: bool) -> None:
    """The budget is more than the context has, or 256 tokens; the answer keeps its own."""
    found = ask(client, is_stream, reasoning_effort=level, max_tokens=100, **LONG)
    budget = min(256 if level == "minimal" else MAX_LEN, found["room"] - 100)
    assert found["thoughts"] == budget
    assert found["tokens"] == min(found["room"], 100 + budget + 2)
    assert found["content"]


@pytest.mark.parametrize("level", ["instant", "none"])
def test_no_thoughts(client: Client, level: str) -> None:
    found = ask(client, reasoning_effort=level, max_tokens=30, **LONG)
    assert (found["tokens"], found["thoughts"], found["reasoning"]) == (30, 0, "")
    assert found["content"]


def test_what_is_said_beside_a_level_wins(client: Client) -> None:
    fields = {"reasoning_effort": "high", "max_tokens": 50, **LONG}
    found = ask(client, thinking_token_budget=8, **fields)
    assert (found["tokens"], found["thoughts"]) == (50, 8)
    off = ask(client, chat_template_kwargs={"enable_thinking": False}, **fields)
    assert (off["tokens"], off["thoughts"]) == (50, 0)


def test_a_level_is_a_default_of_the_other_dial(client: Client) -> None:
    """``high`` asks random weights for certainty that they do not have: a token a step."""
    fields = {"max_tokens": 32, "thinking_token_budget": 4, **LONG}
    steps = {
        level: ask(client, reasoning_effort=level, **fields)["account"]["num_denoising_steps"]
        for level in ("low", "high")
    }
    assert steps["low"] < 6
    assert steps["high"] > 25
    said = ask(client, reasoning_effort="high", diffusion_effort="low", **fields)
    assert said["account"]["num_denoising_steps"] == steps["low"]


@each_way
@pytest.mark.parametrize("budget", [None, 12])
def test_a_grammar_behind_thoughts(client: Client, budget: int | None, is_stream: bool) -> None:
    """Without a budget random thoughts hardly end, so they are ended by a word of the request."""
    fields = {"max_tokens": 120, "response_format": FORMAT, "temperature": 1.0, "seed": 3}
    if budget is None:
        # Token 9 is the end of thoughts; it may come anywhere, and comes at once.
        fields |= {"logit_bias": {"9": 100.0}}
    else:
        fields |= {"thinking_token_budget": budget}
    found = ask(client, is_stream, **fields)
    assert found["thoughts"] == (budget or 0)
    assert found["reason"] == "stop"
    jsonschema.validate(json.loads(found["content"]), SCHEMA)


@each_way
@pytest.mark.parametrize("level", ["instant", "none", "low"])
def test_a_grammar_at_a_level(client: Client, level: str, is_stream: bool) -> None:
    """The answer closes within its own ``max_tokens``, however long the thoughts were."""
    fields = {"max_tokens": 80, "response_format": FORMAT, "reasoning_effort": level}
    found = ask(client, is_stream, **fields)
    assert bool(found["thoughts"]) == (level == "low")
    assert found["reason"] == "stop"
    jsonschema.validate(json.loads(found["content"]), SCHEMA)


def test_a_grammar_without_the_thoughts_in_the_response(client: Client) -> None:
    """vLLM holds such an output to its grammar from the first token, whatever the prompt says.

    Its parser takes what follows an open prompt for thoughts, and leaves it out.
    """
    fields = {"max_tokens": 80, "response_format": FORMAT, "include_reasoning": False}
    assert ask(client, **fields)["reason"] == "stop"
    off = ask(client, chat_template_kwargs={"enable_thinking": False}, **fields)
    jsonschema.validate(json.loads(off["content"]), SCHEMA)


def test_completions_have_budgets_too(client: Client) -> None:
    start, end = 8, 9
    found = client.complete(
        [20, 21, start], max_tokens=30, ignore_eos=True, thinking_token_budget=6
    )
    assert found.token_ids[6] == end
    assert len(found.token_ids) == 30


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"allowed_token_ids": [20, 21]}, "the end of thoughts is not among them; add [9]"),
        ({"bad_words": ["</think>"]}, "thinking_token_budget forces the end of thoughts"),
        ({"thinking_token_budget": -2}, "non-negative integer"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"diffusion_effort": "huge"}, "one of instant, low, medium, high"),
    ],
)
def test_refusals(client: Client, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, max_tokens=20, **{"thinking_token_budget": 5} | fields)
    assert words in str(caught.value)
