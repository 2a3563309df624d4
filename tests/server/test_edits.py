"""Edits over HTTP, as ``make serve`` serves the bundled model: drafts, predictions, two routes.

Whether an edit is right is ``benchmarks/edits.py``'s matter; these hold whatever the model knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from benchmarks.tiny.prompts import load_prompts
from tests.server.client import Client
from tests.server.conftest import healthy
from tests.server.process import ServerProcess

EDIT, APPLY = "/v1/edit/completions", "/v1/apply/completions"
CHATS = "/v1/chat/completions"
SAMPLE = load_prompts("test", 1, ["code"])[0]


@pytest.fixture
def client(bundled_server: ServerProcess) -> Iterator[Client]:
    yield from healthy(bundled_server)


def post(client: Client, path: str, message: Any, **body: Any) -> httpx.Response:
    messages = [{"role": "user", "content": message}] if isinstance(message, str) else message
    return httpx.post(f"{client.url}{path}", json={"messages": messages, **body}, timeout=120)


def marked(text: str, instruction: str = "") -> str:
    return f"{instruction}\n<|code_to_edit|>\n{text}\n<|/code_to_edit|>"


def ask(client: Client, **body: Any) -> dict[str, Any]:
    said = {"model": client.model, "max_tokens": 200, "temperature": 0}
    response = post(client, CHATS, SAMPLE.prompt_messages, **said, **body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def steps(response: dict[str, Any]) -> int:
    found: int = response["metrics"]["speculative_decoding"]["diffusion"]["num_denoising_steps"]
    return found


def test_a_prediction_that_comes_true_is_counted(client: Client) -> None:
    plain = ask(client)
    answer = plain["choices"][0]["message"]["content"]
    told = ask(client, prediction={"type": "content", "content": answer})
    assert told["choices"][0]["message"]["content"] == answer
    details = told["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] > 0
    assert details["rejected_prediction_tokens"] == 0
    # The same by its own name.
    named = ask(client, vllm_xargs={"diffusion_draft": answer})
    assert named["choices"] == told["choices"]
    assert steps(named) == steps(told)


def test_a_prediction_that_is_wrong_does_not_change_what_is_right(client: Client) -> None:
    parts = [{"type": "text", "text": "lamp "}, {"type": "text", "text": "river stone"}]
    told = ask(client, prediction={"type": "content", "content": parts})
    details = told["usage"]["completion_tokens_details"]
    assert details["rejected_prediction_tokens"] > 0
    assert told["choices"][0]["finish_reason"] == "stop"


def test_the_usage_of_a_stream(client: Client) -> None:
    said = {"model": client.model, "stream": True, "stream_options": {"include_usage": True}}
    body = {"messages": SAMPLE.prompt_messages, **said, "max_tokens": 100, "temperature": 0}
    body["prediction"] = {"type": "content", "content": SAMPLE.answer}
    lines = httpx.post(f"{client.url}{CHATS}", json=body, timeout=120).text.split("\n\n")
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    details = chunks[-1]["usage"]["completion_tokens_details"]
    assert sum(v for k, v in details.items() if "prediction" in k) > 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prediction": {"type": "text"}}, "prediction.type"),
        ({"prediction": {"type": "content", "content": 5}}, "prediction.content"),
        ({"prediction": {"type": "content", "content": "a"}, "n": 2}, "n"),
        ({"vllm_xargs": {"diffusion_draft": [3]}}, "diffusion_draft"),
        ({"vllm_xargs": {"diffusion_draft": [999999]}}, "diffusion_draft"),
        ({"vllm_xargs": {"diffusion_draft": "a" * 70_000}}, "diffusion_draft"),
        ({"vllm_xargs": {"diffusion_draft": "a b " * 4000}}, "diffusion_draft"),
    ],
)
def test_drafts_that_cannot_be_had(client: Client, body: dict[str, Any], field: str) -> None:
    response = post(client, CHATS, "a", model=client.model, **body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == field
    assert len(error["message"]) < 2000


def test_a_next_edit(client: Client) -> None:
    response = post(client, EDIT, marked("eva river", "Replace eva with omar."))
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["object"] == "edit.completion"
    assert answer["model"] == client.model or answer["model"]
    (choice,) = answer["choices"]
    content = choice["message"]["content"]
    assert content == "None" or (content.startswith("```\n") and content.endswith("\n```"))
    assert {"prompt_tokens", "completion_tokens", "total_tokens"} <= answer["usage"].keys()
    assert "tool_calls" not in choice["message"]
    for name in ("mercury-coder", client.model):
        said = {"model": name, "nextEdit": True}
        again = post(client, EDIT, marked("eva river", "Replace eva with omar."), **said)
        assert again.json()["choices"] == answer["choices"]
        assert again.json()["model"] == name
    streamed = post(client, EDIT, marked("eva river", "Replace eva with omar."), stream=True)
    chunks = [json.loads(e[6:]) for e in streamed.text.split("\n\n") if e.startswith("data: {")]
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert chunks[0]["choices"][0]["delta"]["content"] == content
    assert chunks[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]


def test_what_is_cut_off_has_no_fence_at_its_end(client: Client) -> None:
    text = "\n".join(f"line {number} of the text" for number in range(12))
    said = {"max_tokens": 5, "ignore_eos": True}
    answer = post(client, EDIT, marked(text, "Replace line with row."), **said).json()
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"].startswith("```\n")
    assert not choice["message"]["content"].endswith("```")


def test_a_change_is_put_into_a_file(client: Client) -> None:
    named = {"original_code": "x = 1", "update_snippet": "x = 2"}
    message = "".join(f"<|{name}|>\n{text}\n<|/{name}|>" for name, text in named.items())
    answer = post(client, APPLY, message).json()
    assert not answer["choices"][0]["message"]["content"].startswith("```")
    assert answer["usage"]["completion_tokens_details"]["accepted_prediction_tokens"] >= 0


@pytest.mark.parametrize(
    ("path", "message", "body", "field"),
    [
        (EDIT, "x = 1", {}, "messages"),
        (EDIT, "<|code_to_edit|>\nx", {}, "messages"),
        (EDIT, [{"role": "system", "content": "a"}], {}, "messages"),
        (EDIT, marked("x"), {"n": 2}, "n"),
        (EDIT, marked("x"), {"max_tokens": 9000}, "max_tokens"),
        (EDIT, marked("x"), {"foo": 1}, "foo"),
        (EDIT, marked("x"), {"stream": True, "stream_options": {"foo": 1}}, "stream_options.foo"),
        (
            EDIT,
            marked("x"),
            {"stream": True, "stream_options": {"diffusion_frames": True}},
            "stream_options.diffusion_frames",
        ),
        (EDIT, marked("x"), {"prediction": {"type": "content", "content": "x"}}, "prediction"),
        (EDIT, marked("x"), {"response_format": {"type": "json_object"}}, "response_format"),
        (EDIT, marked("x"), {"vllm_xargs": {"diffusion_draft": "x"}}, "vllm_xargs.diffusion_draft"),
        (EDIT, marked("a" * 70_000), {}, "messages"),
        (APPLY, "<|original_code|>\nx\n<|/original_code|>", {}, "messages"),
        (APPLY, marked("x"), {}, "messages"),
    ],
)
def test_requests_that_are_refused(
    client: Client, path: str, message: Any, body: dict[str, Any], field: str
) -> None:
    response = post(client, path, message, **body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", field)


def test_the_lists_of_models_name_the_routes(client: Client) -> None:
    (card,) = httpx.get(f"{client.url}/v1/edit/completions/models", timeout=60).json()["data"]
    assert {"edit.completions", "apply.completions"} <= set(card["supported_endpoints"])
    assert post(client, EDIT, marked("x"), model="nobody").status_code == 404
