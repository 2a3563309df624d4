"""The examples as they stand: against the bundled model's server, and offline."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.tiny.prompts import check, load_prompts
from tests.server.client import Client
from tests.server.conftest import healthy
from tests.server.process import ServerProcess, environment

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LETTER = "thank you for the lamp. It came to oslo on friday"


@pytest.fixture
def client(bundled_server: ServerProcess) -> Iterator[Client]:
    yield from healthy(bundled_server)


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def at(client: Client) -> tuple[str, str]:
    return "--base-url", f"{client.url}/v1"


def test_infill(client: Client) -> None:
    said = run("infill.py", *at(client))
    program = said.partition("hole 1")[0]
    for field in ("cup", "star", "lemon"):
        assert f"def get_{field}(self):\n    return self.{field}\n" in program


def test_draft_stream(client: Client) -> None:
    said = run("draft_stream.py", *at(client))
    assert LETTER in " ".join(said.split())  # the terminal's width breaks lines
    drafts = re.search(r"(\d+) drafts", said)
    assert drafts and int(drafts[1]) > 3


@pytest.mark.parametrize("more", [(), ("--realtime",)])
def test_voice(client: Client, more: tuple[str, ...]) -> None:
    said = run("voice.py", *at(client), "--callers", "3", "--turns", "2", *more)
    assert re.search(r"6 turns of 3 callers: first sentence after \d+ ms \(p50\), \d+ ms", said)


@pytest.mark.slow
def test_batch_goes_on_where_it_was(tmp_path: Path) -> None:
    samples = load_prompts("test", 4, ["reverse", "spell", "html"])
    prompts, answers = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    lines = [
        json.dumps({"id": number, "prompt": sample.prompt_messages[0]["content"]})
        for number, sample in enumerate(samples)
    ]
    prompts.write_text("\n".join(lines) + "\n")
    kept = json.dumps({"id": 2, "text": "answered before", "tokens": 1, "forwards": 1})
    answers.write_text(f'{kept}\n{{"id": 5, "te')
    assert "1 answered before, 11 to go" in run("batch.py", str(prompts), str(answers))
    rows = {row["id"]: row for row in map(json.loads, answers.read_text().splitlines())}
    assert sorted(rows) == list(range(len(samples)))
    assert rows.pop(2)["text"] == "answered before"
    right = [check(samples[number], row["text"]) for number, row in rows.items()]
    assert sum(right) >= 10
    assert all(0 < row["forwards"] < row["tokens"] for row in rows.values())
