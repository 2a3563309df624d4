"""Infill over HTTP, as ``make serve`` serves the bundled model: three routes, every kind of hole.

Needs the trained weights in ``examples/models``.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from benchmarks.tiny.prompts import load_prompts
from tests.clients.environments import SCRIPTS
from tests.clients.questions import asked
from tests.server.client import Client
from tests.server.conftest import healthy
from tests.server.counters import Counters, eventually
from tests.server.process import ServerProcess


@pytest.fixture
def client(bundled_server: ServerProcess) -> Iterator[Client]:
    yield from healthy(bundled_server)


def post(client: Client, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{client.url}{path}", json=body, timeout=120)


def holes(count: int) -> list[tuple[str, str, str]]:
    """Test prompts of the fill-in task: prefix, suffix, and what is missing."""
    found = []
    for sample in load_prompts("test", count, ["fim"]):
        program = sample.prompt_messages[0]["content"].split("\n", 1)[1]
        prefix, suffix = program.split("___")
        found.append((prefix, suffix, sample.answer))
    return found


def test_the_bundled_task_is_right_on_every_route(client: Client) -> None:
    """The twin has 100 % on it (``benchmarks/tiny/README.md``); so has this model."""
    for prefix, suffix, answer in holes(10):
        said = client.openai.completions.create(
            model=client.model, prompt=prefix, suffix=suffix, max_tokens=150
        )
        assert said.choices[0].text == answer
        assert said.to_dict()["diffusion"]["infill"] == "prompted"
        fim = post(client, "/v1/fim/completions", model=client.model, prompt=prefix, suffix=suffix)
        (choice,) = fim.json()["choices"]
        assert choice["text"] == choice["message"]["content"] == answer
        usage = fim.json()["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        infill = post(client, "/infill", input_prefix=prefix, input_suffix=suffix, n_predict=150)
        assert infill.json()["content"] == answer


def test_markers_in_a_prompt(client: Client) -> None:
    ((prefix, suffix, answer),) = holes(1)
    prompt = f"<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>"
    said = client.openai.completions.create(model=client.model, prompt=prompt, max_tokens=150)
    assert said.choices[0].text == answer


def test_streams(client: Client) -> None:
    ((prefix, suffix, answer),) = holes(1)
    fields: dict[str, Any] = {"model": client.model, "prompt": prefix, "suffix": suffix}
    options = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 150}
    chunks = list(client.openai.completions.create(**fields, **options))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == answer
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-1].usage is not None
    lines = post(client, "/v1/fim/completions", **fields, **options).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert '"delta"' in lines[0]


def test_several_holes(client: Client) -> None:
    fixed = ["def get_lemon(self):\n", "\ndef get_cup(self):\n", "\ndef get_star(self):\n", ""]
    segments = [fixed[0], None, fixed[1], None, fixed[2], None]
    said = post(client, "/v1/fim/completions", model=client.model, segments=segments).json()
    (choice,) = said["choices"]
    assert len(choice["holes"]) == 3
    fills = iter(choice["holes"])
    assert choice["text"] == "".join(next(fills) if s is None else s for s in segments)


def test_passages_of_any_kind_come_back_unaltered(client: Client) -> None:
    """What a client has is its own: an answer is what stands between, and nothing of them."""
    rng = random.Random(0)
    alphabet = "ab{}[]\"'\\\n\t é日😀<|>_ "
    for _ in range(40):
        prefix, suffix = ("".join(rng.choices(alphabet, k=rng.randint(0, 40))) for _ in range(2))
        fields = {"model": client.model, "segments": [prefix, None, suffix], "max_tokens": 24}
        response = post(client, "/v1/fim/completions", **fields)
        assert response.status_code == 200, response.text
        (choice,) = response.json()["choices"]
        assert choice["text"] == prefix + choice["holes"][0] + suffix


def test_no_text_behind_the_cursor(client: Client) -> None:
    plain = client.complete("def get_cup(self):", max_tokens=12).text
    for suffix in ("", "<|endoftext|>"):
        fields = {"model": client.model, "prompt": "def get_cup(self):", "max_tokens": 12}
        said = client.openai.completions.create(**fields, suffix=suffix, temperature=0)
        assert said.choices[0].text == plain


def test_the_editors_warm_up_call(client: Client) -> None:
    fields = {"n_predict": 0, "samplers": [], "input_prefix": "", "input_suffix": ""}
    response = post(client, "/infill", **fields, t_max_prompt_ms=1, cache_prompt=True)
    assert (response.status_code, response.json()["content"]) == (200, "")


def test_a_deadline(client: Client) -> None:
    """An answer that is not there in time is empty, and the engine goes on with others."""
    fields = {"input_prefix": "a", "input_suffix": "b", "n_predict": 900, "stop": []}
    response = post(client, "/infill", **fields, t_max_predict_ms=0.01)
    assert (response.status_code, response.json()["content"]) == (200, "")
    assert eventually(lambda: Counters.read(client.url)("num_requests_running") == 0)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/completions", {"prompt": "a", "suffix": "b", "echo": True}, "echo"),
        ("/v1/completions", {"prompt": ["a", "b"], "suffix": "c"}, "prompt"),
        ("/v1/completions", {"prompt": "a", "suffix": "b" * 3000}, ""),
        ("/v1/fim/completions", {"prompt": "a", "suffix": 5}, "suffix"),
        ("/v1/fim/completions", {"prompt": "a", "suffix": "b", "max_tokens": 0}, "max_tokens"),
        ("/v1/fim/completions", {"prompt": "a", "suffix": "b", "top_k": 0.5}, "top_k"),
        ("/v1/fim/completions", {"prompt": "a", "sufix": "b"}, "sufix"),
        ("/v1/fim/completions", {"segments": ["a"]}, "segments"),
        ("/v1/fim/completions", {}, "prompt"),
        ("/infill", {"input_prefix": "a", "n_predict": -2}, "n_predict"),
        ("/infill", {"input_prefix": "a", "n_indent": 2}, "n_indent"),
        ("/infill", {"input_prefx": "a"}, "input_prefx"),
        ("/infill", {"input_prefix": "a", "input_suffix": "b", "top_p": 7}, "top_p"),
    ],
)
def test_bad_requests_say_so(client: Client, path: str, body: dict[str, Any], field: str) -> None:
    told = {} if path == "/infill" else {"model": client.model}
    response = post(client, path, **told, **body)
    assert response.status_code == 400, response.text
    assert field in (response.json()["error"]["param"] or field)
    ((prefix, suffix, answer),) = holes(1)
    assert (
        post(client, "/infill", input_prefix=prefix, input_suffix=suffix).json()["content"]
        == answer
    )


def test_an_unknown_model(client: Client) -> None:
    response = post(client, "/v1/fim/completions", model="other", prompt="a", suffix="b")
    assert response.status_code == 404
    with pytest.raises(openai.NotFoundError):
        client.openai.completions.create(model="other", prompt="a", suffix="b")


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_real_client(client: Client, tmp_path: Path, name: str) -> None:
    """Those that are installed anyway; ``make clients`` runs all of them."""
    pytest.importorskip(name)
    questions = tmp_path / "asked.json"
    questions.write_text(json.dumps(asked()))
    command = (sys.executable, str(SCRIPTS / f"with_{name}.py"), client.url, str(questions))
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) >= 5
    assert [each for each in told if each["result"] != "ok"] == []
