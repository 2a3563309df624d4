"""The top-level ``warning`` of responses, and fields that stand where nobody reads them.

The server's default is an approximate cache, and it takes other servers' fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.checkpoints import llada
from tests.server.client import Client, diffusion_of
from tests.server.conftest import healthy
from tests.server.process import ServerProcess

SERVER_ARGS = (
    *("--dtype", "float32"),
    "--enforce-eager",
    *("--max-model-len", "1024"),
    *("--max-num-seqs", "4"),
    *("--kv-cache-memory-bytes", str(16 << 20)),
    "--additional-config",
    '{"diffusion": {"kv_cache": "prefix", "block_length": 8}, "foreign_fields": "warn"}',
)
GENERIC = "diffusion_kv_cache='prefix': forwards may have reused approximate K and V"
TWENTY = {"max_tokens": 20, "ignore_eos": True}
TWO = {"n": 2, "temperature": 1.0}
EXACT = {"diffusion_kv_cache": "exact"}
USAGE = {"stream_options": {"include_usage": True}}


@pytest.fixture(scope="module")
def approximate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = llada.write(tmp_path_factory.mktemp("models") / "llada", tokenizer=True)
    process = ServerProcess(folder, folder / "log", *SERVER_ARGS)
    try:
        process.wait_until_healthy()
        yield process
    finally:
        process.stop()


@pytest.fixture
def client(approximate: ServerProcess) -> Iterator[Client]:
    yield from healthy(approximate)


def ask(client: Client, kind: str, **fields: Any) -> Any:
    """A chat or a completion; its stream if ``fields`` say so."""
    method = {"chat": client.chat, "completion": client.completion}[kind]
    return method("Hello there!", **TWENTY | fields)


def chunks(client: Client, kind: str, **fields: Any) -> list[dict[str, Any]]:
    return [chunk.to_dict() for chunk in ask(client, kind, stream=True, **fields)]


each_kind = pytest.mark.parametrize("kind", ["chat", "completion"])


@each_kind
def test_a_whole_response(client: Client, kind: str) -> None:
    response = ask(client, kind)
    account = diffusion_of(response.to_dict())
    assert response.warning == account["warning"]
    assert response.warning.startswith(f"{account['num_approximate_forwards']} of ")
    assert "warning" not in ask(client, kind, **EXACT).to_dict()


@each_kind
def test_several_answers_have_no_metrics_and_yet_a_warning(client: Client, kind: str) -> None:
    response = ask(client, kind, **TWO)
    assert not response.metrics
    assert response.warning.startswith(GENERIC)
    assert "warning" not in ask(client, kind, **TWO, **EXACT).to_dict()


@each_kind
def test_the_last_chunk_of_a_stream(client: Client, kind: str) -> None:
    *before, last = chunks(client, kind)
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["warning"].startswith(GENERIC)
    assert before
    assert not any("warning" in chunk for chunk in before)
    assert not any("warning" in chunk for chunk in chunks(client, kind, **EXACT))


@each_kind
def test_the_last_chunk_of_a_stream_with_usage(client: Client, kind: str) -> None:
    *before, last = chunks(client, kind, **USAGE)
    assert last["usage"]["completion_tokens"] == 20
    assert last["warning"] == diffusion_of(last)["warning"] is not None
    assert not any("warning" in chunk for chunk in before)
    assert not any("warning" in chunk for chunk in chunks(client, kind, **USAGE, **EXACT))


@each_kind
def test_several_streamed_answers_have_one_warning(client: Client, kind: str) -> None:
    *before, last = chunks(client, kind, **TWO)
    assert last["warning"].startswith(GENERIC)
    assert not any("warning" in chunk for chunk in before)


@each_kind
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_field_outside_of_its_place_is_refused(client: Client, kind: str, stream: bool) -> None:
    """vLLM would ignore it."""
    misplaced = {"max_tokens": 4, "temperature": 0, "diffusion_kv_cache": "exact"}
    path, body = {
        "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
        "completion": ("/v1/completions", {"prompt": "Hello"}),
    }[kind]
    status, answer = client.post(path, misplaced | body | {"stream": stream})
    assert status == 400
    assert answer["error"]["param"] == "diffusion_kv_cache"
    assert "belongs into vllm_xargs: " in answer["error"]["message"]


def test_a_chat_that_says_no_length(client: Client) -> None:
    """It is not the whole context."""
    fast = {"diffusion_block_length": 8, "diffusion_max_steps": 1, "ignore_eos": True}
    response = client.chat("Hello there!", **fast)
    assert response.usage.completion_tokens == 512
    assert client.chat("Hello there!", max_tokens=600, **fast).usage.completion_tokens == 600


@each_kind
def test_fields_of_other_servers_are_taken_with_a_word(client: Client, kind: str) -> None:
    foreign = {"keep_alive": 5, "provider": {"sort": "price"}}
    said = ask(client, kind, **foreign, **EXACT)
    assert "keep_alive (Ollama), provider (OpenRouter)" in said.warning
    assert said.choices[0].finish_reason == "length"
    both = ask(client, kind, **foreign)
    assert "approximate" in both.warning and "keep_alive" in both.warning
    *_, last = chunks(client, kind, **foreign, **EXACT)
    assert "keep_alive" in last["warning"]
