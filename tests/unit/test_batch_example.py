"""The batch example's books: what is answered is not asked again, and each prompt is there once."""

from __future__ import annotations

import importlib.util
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "examples" / "ray" / "batch_ray_data.py"
spec = importlib.util.spec_from_file_location("batch_ray_data", FILE)
assert spec is not None
assert spec.loader is not None
batch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(batch)


class Parrot(batch.Worker):  # type: ignore[misc, name-defined]
    """Says what it was asked, refuses "no", and is killed in front of "last"."""

    asked: list[str] = []  # noqa: RUF012 (emptied by each test)

    def __init__(self, model: str, engine: Any, sampling: Any, parts: str) -> None:
        self.parts = Path(parts)

    def ask(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        prompts = [row["prompt"] for row in rows]
        if "last" in prompts and "last" not in self.asked:
            self.asked.append("last")
            raise KeyboardInterrupt
        if "no" in prompts:
            raise ValueError("it is refused")
        self.asked += prompts
        return [{"text": prompt} for prompt in prompts]


def write(folder: Path, files: dict[str, list[Any]]) -> Path:
    folder.mkdir()
    for name, rows in files.items():
        (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> None:
    monkeypatch.setattr(sys, "argv", ["batch", *args, "--workers", "0", "--batch", "3"])
    batch.main()


def test_killed_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "Worker", Parrot)
    monkeypatch.setattr(Parrot, "asked", [])
    first = [{"prompt": f"a{n}"} for n in range(5)]
    second = [{"prompt": "no", "id": "x"}, {"prompt": "b"}, {"prompt": "last", "id": "y"}]
    prompts = write(tmp_path / "prompts", {"1.jsonl": first, "2.jsonl": second})
    answers = tmp_path / "answers"
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, str(prompts), str(answers))
    assert not (answers / "answers.jsonl").exists()
    (answers / "parts" / "half.7.tmp").write_text('{"id": "y", "te')  # killed while it wrote
    before = list(Parrot.asked)
    run(monkeypatch, str(prompts), str(answers))
    found = [json.loads(line) for line in (answers / "answers.jsonl").read_text().splitlines()]
    assert found == [
        *({"id": f"1.jsonl:{n + 1}", "text": f"a{n}"} for n in range(5)),
        {"id": "x", "error": "it is refused"},
        {"id": "2.jsonl:2", "text": "b"},
        {"id": "y", "text": "last"},
    ]
    assert Parrot.asked[len(before) :] == ["b", "last"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"prompt": "a"}, {"text": "b"}], "1.jsonl:2 is no prompt: it has neither"),
        ([{"prompt": "a", "id": 1}, {"prompt": "b", "id": "1"}], "1.jsonl:2 has the id '1'"),
        ([["a"]], "1.jsonl:1 is no prompt"),
    ],
)
def test_lines_that_are_no_prompts(lines: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=message):
        list(batch.read_prompts(write(tmp_path / "prompts", {"1.jsonl": lines})))


def test_a_prompt_without_an_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(pending: Sequence[Any], arguments: Namespace, parts: Path) -> None:
        pass

    monkeypatch.setattr(batch, "compute", forget)
    prompts = write(tmp_path / "prompts", {"1.jsonl": [{"prompt": "a"}]})
    with pytest.raises(SystemExit, match="1 prompts have no answer, such as 1"):
        run(monkeypatch, str(prompts), str(tmp_path / "answers"))
