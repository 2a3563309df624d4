"""Finished texts are checked: a broken automaton is an error and a count, never a wrong answer."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.server import limits
from tests.server.client import Client
from tests.server.conftest import healthy
from tests.server.counters import Counters
from tests.server.process import ServerProcess

CODE = "invalid_structured_output"
TEXTS = "diffusion_num_checked_texts_total"


@pytest.fixture(scope="module")
def broken(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("broken") / "log"
    process = ServerProcess(random_model, log, *limits.SERVER_ARGS, fault="broken automaton")
    try:
        process.wait_until_healthy()
        yield process
    finally:
        process.stop()


@pytest.fixture
def client(broken: ServerProcess) -> Iterator[Client]:
    yield from healthy(broken)


class Gained:
    """How many texts have been checked since, by result."""

    def __init__(self, client: Client) -> None:
        self.url, self.before = client.url, self._read(client.url)

    @staticmethod
    def _read(url: str) -> dict[str, float]:
        counters = Counters.read(url)
        return {name: counters(TEXTS, result=name) for name in ("valid", "invalid", "unchecked")}

    def __call__(self) -> dict[str, float]:
        now = self._read(self.url)
        return {
            name: now[name] - self.before[name] for name in now if now[name] > self.before[name]
        }


def schema(title: str) -> dict[str, Any]:
    members = {"a": {"type": "integer", "minimum": 1, "maximum": 9}}
    return {"type": "object", "title": title, "properties": members, "required": ["a"]}


def tools(name: str) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name, "parameters": schema(name)}}]


def asked(title: str) -> dict[str, dict[str, Any]]:
    """Kinds of constraints; their parser of their own says the second half of them is broken."""
    named = {"type": "function", "function": {"name": title}}
    form = {"name": "x", "schema": schema(title), "strict": True}
    return {
        "response_format": {"response_format": {"type": "json_schema", "json_schema": form}},
        "json": {"structured_outputs": {"json": schema(title)}},
        "regex": {"structured_outputs": {"regex": f"[a-z]{{5}}[0-9]|{title}{{900}}"}},
        "named call": {"tools": tools(title), "tool_choice": named},
    }


KINDS = tuple(asked(""))


def chat_body(client: Client, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hello!"}]
    return {"model": client.model, "messages": messages, "max_tokens": 100, **fields, **more}


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_text_passes(client: Client, kind: str) -> None:
    gained = Gained(client)
    fields = asked("fine")[kind]
    status, answer = client.post("/v1/chat/completions", chat_body(client, fields))
    assert status == 200, answer
    assert gained() == {"valid": 1}
    status, text = client.post_for_text(
        "/v1/chat/completions", chat_body(client, fields, stream=True)
    )
    assert (status, text.count("error"), text.endswith("data: [DONE]\n\n")) == (200, 0, True)
    assert gained() == {"valid": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_text_is_an_error(client: Client, kind: str) -> None:
    gained = Gained(client)
    fields = asked("broken")[kind]
    status, answer = client.post("/v1/chat/completions", chat_body(client, fields))
    assert (status, answer["error"]["code"], answer["error"]["type"]) == (500, CODE, "server_error")
    assert "not what was asked for" in answer["error"]["message"]
    assert gained() == {"invalid": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_text_ends_a_stream_with_an_error(client: Client, kind: str) -> None:
    """And says no reason to finish."""
    gained = Gained(client)
    body = chat_body(client, asked("broken")[kind], stream=True)
    status, text = client.post_for_text("/v1/chat/completions", body)
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    (error,) = [json.loads(event)["error"] for event in events if '"error"' in event]
    assert (status, error["code"]) == (200, CODE)
    assert not any('"finish_reason":"stop"' in event.replace(" ", "") for event in events)
    assert gained() == {"invalid": 1}


def test_completions_and_their_answers(client: Client) -> None:
    """Of several answers each is checked; a wrong one is no answer."""
    gained = Gained(client)
    right = {"structured_outputs": {"regex": "[a-z]{3}"}}
    client.completion("Hi", max_tokens=20, n=3, temperature=1, **right)
    assert gained() == {"valid": 3}
    chunks = list(client.completion("Hi", max_tokens=20, n=2, stream=True, temperature=1, **right))
    assert {chunk.choices[0].finish_reason for chunk in chunks} >= {"stop"}
    assert gained() == {"valid": 5}
    wrong = {"structured_outputs": {"regex": "[a-z]{3}|broken{900}"}}
    with pytest.raises(openai.InternalServerError, match="not what was asked for"):
        client.completion("Hi", max_tokens=20, **wrong)
    with pytest.raises(openai.APIError, match="not what was asked for"):
        list(client.completion("Hi", max_tokens=20, stream=True, **wrong))
    assert gained() == {"valid": 5, "invalid": 2}


def test_responses(client: Client) -> None:
    form = {"type": "json_schema", "name": "x", "schema": schema("broken"), "strict": True}
    body = {"model": client.model, "input": "Hi", "max_output_tokens": 60, "text": {"format": form}}
    gained = Gained(client)
    status, answer = client.post("/v1/responses", body)
    assert (status, answer["error"]["code"]) == (500, CODE)
    status, text = client.post_for_text("/v1/responses", {**body, "stream": True})
    assert status == 200
    assert "not what was asked for" in text
    assert "response.completed" not in text
    assert gained() == {"invalid": 2}


def test_cut_texts_are_not_checked(client: Client) -> None:
    """By a stop string of the client's, or by nothing that was asked for."""
    gained = Gained(client)
    wrong = {
        "structured_outputs": {"regex": "[a-z]{9}|broken{900}"},
        "stop": [str(n) for n in range(10)],
    }
    answer = client.complete("Hi", **wrong)
    assert answer.finish_reason == "stop"
    assert isinstance(answer.stop_reason, str)
    client.complete("Hi")
    assert gained() == {}


def test_the_counters_are_there_before_the_first_text(server: ServerProcess) -> None:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as response:
        text = response.read().decode()
    assert (
        'vllm:diffusion_num_checked_texts_total{model_name="random",result="invalid"} 0.0' in text
    )
