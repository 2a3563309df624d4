"""Prefill and decode in two servers that share a folder: one reads prompts, the other answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parity.cases import Case, Rule, Yardstick
from tests.server import limits
from tests.server.client import Client, together
from tests.server.process import ServerProcess

pytestmark = pytest.mark.slow

ROLES = ("kv_producer", "kv_consumer")
LENGTHS = (200, 390, 520)
MAX_TOKENS = 40


@pytest.fixture
def servers(random_model: Path, tmp_path: Path) -> Iterator[dict[str, ServerProcess]]:
    """By role; both are up at the same time."""
    started = {}
    for role in ROLES:
        transfer = {
            "kv_connector": "ExampleConnector",
            "kv_role": role,
            "kv_connector_extra_config": {"shared_storage_path": str(tmp_path / "pages")},
        }
        args = (
            *limits.SERVER_ARGS,
            "--no-enable-chunked-prefill",
            *("--max-num-batched-tokens", str(limits.MAX_MODEL_LEN)),
            *("--kv-transfer-config", json.dumps(transfer)),
        )
        started[role] = ServerProcess(random_model, tmp_path / f"{role}.log", *args)
    try:
        for server in started.values():
            server.wait_until_healthy()
        yield started
    finally:
        for server in started.values():
            server.stop()


def test_prompts_are_read_by_another_server(
    servers: dict[str, ServerProcess], random_model: Path
) -> None:
    """Texts are the reference's, and the second server computes the prompts' last page alone."""
    yardstick = Yardstick(random_model)
    rule = Rule(limits.POLICY, limits.THRESHOLD)
    cases: list[Case] = [
        yardstick.draw(
            length, MAX_TOKENS, limits.BLOCK_LENGTH, rule=rule, max_len=limits.MAX_MODEL_LEN
        )
        for length in LENGTHS
    ]
    reads, answers = (Client(servers[role].url, servers[role].model) for role in ROLES)

    def ask(client: Client, case: Case, max_tokens: int) -> tuple[list[int], int]:
        found = client.complete(list(case.prompt), max_tokens=max_tokens)
        return found.token_ids, found.usage["prompt_tokens_details"]["cached_tokens"]

    first = together([lambda c=case: ask(reads, c, 1) for case in cases])
    assert [cached for _, cached in first] == [0] * len(cases)
    found = together([lambda c=case: ask(answers, c, MAX_TOKENS) for case in cases])
    assert [tokens for tokens, _ in found] == [list(yardstick(case).tokens) for case in cases]
    # The connector leaves out the page in which the last two tokens are.
    pages = [(length - 2) // limits.PAGE * limits.PAGE for length in LENGTHS]
    assert [cached for _, cached in found] == pages
    # A prompt that nobody has read is computed where it is asked.
    alone = yardstick.draw(
        300, MAX_TOKENS, limits.BLOCK_LENGTH, rule=rule, max_len=limits.MAX_MODEL_LEN
    )
    assert ask(answers, alone, MAX_TOKENS) == (list(yardstick(alone).tokens), 0)
