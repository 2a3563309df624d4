"""What an error says, on every route and in streams: one envelope, string codes, no 500."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.server.client import Client

CHAT = [{"role": "user", "content": "Hello!"}]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": CHAT, "max_tokens": 4},
    "/v1/completions": {"prompt": "Hello!", "max_tokens": 4},
    "/v1/responses": {"input": "Hello!", "max_output_tokens": 4},
    "/v1/messages": {"messages": CHAT, "max_tokens": 4},
}
each_route = pytest.mark.parametrize("route", ROUTES)


def post(client: Client, route: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    return client.post(route, {"model": client.model, **ROUTES[route], **fields})


def message_of(body: dict[str, Any]) -> str:
    said: str = body["error"]["message"]
    return said


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [
        ("/v1/nothing", "not_found", "no POST /v1/nothing"),
        ("/v1/models", "method_not_allowed", "POST"),
    ],
)
def test_unknown_paths(client: Client, path: str, code: str, says: str) -> None:
    _, body = client.post(path, {})
    assert body["error"]["code"] == code
    assert says in message_of(body)


def test_codes_that_clients_read(client: Client) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.openai.chat.completions.create(model="nobody", messages=[])
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    for fields in ({"max_tokens": 10**6}, {"prompt": [20] * 2000}):
        with pytest.raises(openai.BadRequestError) as long:
            client.completion(**({"prompt": "a"} | fields))
        assert long.value.code == "context_length_exceeded"
        assert long.value.type == "invalid_request_error"


def test_messages_have_anthropics_envelope(client: Client) -> None:
    for fields in ({"max_tokens": 0}, {"diffusing": True}, {"max_tokens": 10**6}):
        status, body = post(client, "/v1/messages", **fields)
        assert (status, body["type"]) == (400, "error")
        assert body["error"]["type"] == "invalid_request_error"
        assert set(body["error"]) == {"type", "message"}


@each_route
@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"vllm_xargs": {"diffusion_threshold": 2}}, 400, "diffusion_threshold=2"),
        ({"vllm_xargs": {"diffusion_keywords": "["}}, 400, "diffusion_keywords="),
        ({"temperature": -1}, 400, "temperature"),
        ({"colour": "red"}, 400, "colour='red'"),
        ({"model": "nobody"}, 404, "nobody"),
        ({}, 200, ""),
    ],
    ids=str,
)
def test_a_stream_is_refused_as_without_one(
    client: Client, route: str, fields: dict[str, Any], status: int, says: str
) -> None:
    body = json.dumps({"model": client.model, **ROUTES[route], **fields})
    plain_status, plain = client.post_for_text(route, body)
    stream_status, stream = client.post_for_text(route, body[:-1] + ', "stream": true}')
    assert (plain_status, stream_status) == (status, status)
    if status == 200:
        assert stream.startswith(("data: ", "event: "))
        assert '"error"' not in stream
    else:
        assert plain == stream
        assert says in message_of(json.loads(plain))


def test_a_prompt_among_others_that_is_refused(client: Client) -> None:
    fields = {"model": client.model, "max_tokens": 4, "stream": True}
    status, text = client.post_for_text("/v1/completions", fields | {"prompt": ["a", "a " * 3000]})
    assert status == 400, text[:200]
    status, text = client.post_for_text("/v1/completions", fields | {"prompt": ["a", "b"], "n": 1})
    assert status == 200
    assert text.endswith("data: [DONE]\n\n")


@each_route
@pytest.mark.parametrize(
    "raw",
    [
        '"stop": "\\ud800"',
        '"metadata": {"a": "\\ud800"}',
        '"temperature": NaN',
        '"logit_bias": {"5": NaN}',
        '"stream_interval": 100000000000000000000',
        '"structured_outputs": 5',
        '"structured_outputs": {"chioce": ["a"]}',
        '"tools": ' + "[" * 10000 + "]" * 10000,
        '"a": [',
        '"tools": [{}], "tool_choice": {"type": "function", "function": {"name": "f"}}',
    ],
    ids=lambda raw: raw[:40],
)
def test_nothing_that_a_client_sends_is_a_500(client: Client, route: str, raw: str) -> None:
    start = json.dumps({"model": client.model, **ROUTES[route]})[:-1]
    status, body = client.post(route, f"{start}, {raw}}}")
    assert status == 400
    assert len(message_of(body)) < 2000


@each_route
def test_long_values_are_cut(client: Client, route: str) -> None:
    long = "x" * 20000
    for fields in ({long: 1}, {"temperature": long}, {"vllm_xargs": {"diffusion_policy": long}}):
        status, body = post(client, route, **fields)
        assert status == 400
        assert long[:201] not in json.dumps(body)


def test_a_batch_of_chats(client: Client) -> None:
    body = {"model": client.model, "messages": [CHAT, CHAT], "max_tokens": 4}
    path = "/v1/chat/completions/batch"
    status, answer = client.post(path, body | {"vllm_xargs": {"diffusion_threshold": 0.5}})
    assert (status, len(answer["choices"])) == (200, 2)
    for fields in ({"colour": 1}, {"stream": True}, {"diffusion_threshold": 1}):
        assert client.post(path, body | fields)[0] == 400
