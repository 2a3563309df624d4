"""A server whose ranks are a pipeline: what clients get, and what they get when a rank fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import faults, limits
from tests.server.client import together
from tests.server.process import ServerProcess
from tests.server.test_faults import assert_told, client_of, during, end_of

SCHEMA = {"type": "object", "properties": {"pet": {"enum": ["cat", "dog"]}}, "required": ["pet"]}


@pytest.fixture
def server(random_model: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    args = (*limits.SERVER_ARGS, "--pipeline-parallel-size", "2")
    process = ServerProcess(random_model, tmp_path / "log", *args, fault="first rank fails")
    try:
        process.wait_until_healthy()
        yield process
    finally:
        process.stop()


def test_a_pipeline_serves_and_ends_with_its_first_rank(server: ServerProcess) -> None:
    """Nobody reads the first rank's answers; its failure reaches every client all the same."""
    client = client_of(server)
    prompts = [[40 + n] * (20 + n) for n in range(6)]
    alone = [client.complete(prompt).token_ids for prompt in prompts]
    calls = [lambda p=prompt: client.complete(p).token_ids for prompt in prompts]
    assert together(calls) == alone
    fields = {"type": "json_schema", "json_schema": {"name": "pet", "schema": SCHEMA}}
    answer = client.chat("which?", response_format=fields, max_tokens=60)
    assert json.loads(answer.choices[0].message.content)["pet"] in ("cat", "dog")

    def fail() -> None:
        body = {"model": client.model, "prompt": faults.POISON, "max_tokens": 1}
        client.post("/v1/completions", body)

    streams, others = during(client, fail)
    assert_told(streams, others, 500, "EngineCore encountered an issue")
    assert max(seen.seconds for seen in (*streams, *others)) < 30
    assert end_of(server) == 1
