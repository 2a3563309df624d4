"""Options of vLLM's beside diffusion, over HTTP: two engines, LoRA by the model's name, batches."""

from __future__ import annotations

import json
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.checkpoints import lora
from tests.forking import fork_server
from tests.parity.cases import Case, Rule, Yardstick
from tests.server import async_engines, limits
from tests.server.client import Client, together
from tests.server.conftest import healthy
from tests.server.counters import eventually
from tests.server.forked import ForkedCommand
from tests.server.process import ServerProcess

pytestmark = pytest.mark.slow

ADAPTER = "adapter"
SCHEMA = {
    "type": "object",
    "properties": {"pet": {"enum": ["bear", "cat"]}, "old": {"type": "boolean"}},
    "required": ["pet", "old"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folders(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The base, an adapter of it, and both in one."""
    made = tmp_path_factory.mktemp("adapters")
    return {
        "base": random_model,
        ADAPTER: lora.write(made / ADAPTER, random_model, seed=11),
        "merged": lora.merge(made / "merged", random_model, seed=11),
    }


@pytest.fixture(scope="module")
def server_of_two(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Two engines, each with the adapter."""
    process = ServerProcess(
        folders["base"],
        tmp_path_factory.mktemp("two") / "log",
        *limits.SERVER_ARGS,
        *("--data-parallel-size", "2"),
        *("--enable-lora", "--max-loras", "1", "--max-lora-rank", "8"),
        *("--lora-modules", f"{ADAPTER}={folders[ADAPTER]}"),
        "--async-scheduling",
        variables={"VLLM_SERVER_DEV_MODE": "1"},
    )
    try:
        process.wait_until_healthy()
        yield process
    finally:
        process.stop()


@pytest.fixture
def client_of_two(server_of_two: ServerProcess) -> Iterator[Client]:
    yield from healthy(server_of_two)


def test_two_engines_and_an_adapter(
    server_of_two: ServerProcess, client_of_two: Client, folders: dict[str, Path]
) -> None:
    """Texts are the reference's, whichever engine answers and whoever is beside it."""
    clients = {
        "base": client_of_two,
        "merged": Client(server_of_two.url, ADAPTER),
    }
    expected, calls = [], []
    for name, client in clients.items():
        yardstick = Yardstick(folders[name])
        for number in range(4):
            case = yardstick.draw(
                20 + 9 * number,
                20,
                limits.BLOCK_LENGTH,
                rule=Rule(limits.POLICY, limits.THRESHOLD),
                max_len=limits.MAX_MODEL_LEN,
            )
            expected.append(yardstick(case).tokens)
            calls.append(lambda client=client, case=case: _tokens(client, case))
    assert expected[:4] != expected[4:]
    assert together(calls * 2) == expected * 2
    served = _by_engine(server_of_two.url, "vllm:request_success_total")
    assert set(served) == {"0", "1"}
    assert min(served.values()) > 0
    assert sum(served.values()) == 2 * len(expected)


def _by_engine(url: str, name: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:
        text = response.read().decode()
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                found[sample.labels["engine"]] += sample.value
    return found


def _tokens(client: Client, case: Case) -> list[int]:
    return client.complete(list(case.prompt), max_tokens=case.max_tokens).token_ids


def test_two_engines_follow_schemas(client_of_two: Client) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "pet", "schema": SCHEMA}}

    def ask(number: int) -> Any:
        answer = client_of_two.chat(f"pet {number}", max_tokens=60, response_format=form)
        return json.loads(answer.choices[0].message.content)

    for found in together([lambda n=n: ask(n) for n in range(6)]):
        assert set(found) == {"pet", "old"}
        assert found["pet"] in ("bear", "cat")
        assert isinstance(found["old"], bool)


def test_what_is_turned_off_is_said(server_of_two: ServerProcess) -> None:
    """Once, though three processes read the options."""
    told = "--async-scheduling is off: what a diffusion model computes next"
    lines = server_of_two.log.read_text(errors="replace").splitlines()
    assert len([line for line in lines if told in line]) == 1


def test_sleep(client_of_two: Client) -> None:
    """Requests in both engines: kept ones come out as they would have, others say "abort"."""
    fields = {"max_tokens": 300, "ignore_eos": True, "diffusion_threshold": 1.0}
    prompts = [[40 + n] * 20 for n in range(4)]

    def ask(prompt: list[int]) -> tuple[str, list[int]]:
        answer = client_of_two.complete(prompt, **fields)
        return answer.finish_reason, answer.token_ids

    def asleep_between(mode: str) -> list[tuple[str, list[int]]]:
        running = lambda: _by_engine(client_of_two.url, "vllm:num_requests_running")  # noqa: E731
        with ThreadPoolExecutor(len(prompts)) as pool:
            asked = [pool.submit(ask, prompt) for prompt in prompts]
            assert eventually(lambda: sum(running().values()) == len(prompts))
            client_of_two.post(f"/sleep?level=1&mode={mode}", {})
            assert mode == "abort" or not any(each.done() for each in asked)
            client_of_two.post("/wake_up", {})
            return [each.result() for each in asked]

    expected = together([lambda p=prompt: ask(p) for prompt in prompts])
    assert {reason for reason, _ in asleep_between("abort")} == {"abort"}
    assert asleep_between("keep") == expected


def test_two_engines_in_python(random_model: Path, tmp_path: Path) -> None:
    """``AsyncLLM``: the reference's texts, whether the other engine is idle or not."""
    yardstick = Yardstick(random_model)
    rule = Rule(limits.POLICY, limits.THRESHOLD)
    cases = [
        yardstick.draw(20 + 9 * n, 24, limits.BLOCK_LENGTH, rule=rule, max_len=limits.MAX_MODEL_LEN)
        for n in range(4)
    ]
    log, answers = tmp_path / "log", tmp_path / "answers"
    prompts = [list(case.prompt) for case in cases]
    process = fork_server().Process(
        target=async_engines.answer, args=(str(random_model), prompts, 24, str(answers), str(log))
    )
    process.start()
    try:
        process.join(240)
        assert process.exitcode == 0, log.read_text()[-3000:]
    finally:
        process.kill()
    expected = [list(yardstick(case).tokens) for case in cases]
    assert json.loads(answers.read_text()) == [expected, expected]


def test_run_batch(random_model: Path, tmp_path: Path) -> None:
    """A file of requests: answers, and the refusal of one that has an unknown field."""
    bodies: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 12},
        {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 12, "logit_bia": {}},
    ]
    lines = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body | {"model": "m", "temperature": 0},
        }
        for number, body in enumerate(bodies)
    ]
    asked, answered = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    asked.write_text("\n".join(map(json.dumps, lines)))
    command = ForkedCommand(
        (
            "run-batch",
            *("-i", str(asked), "-o", str(answered)),
            *("--model", str(random_model), "--served-model-name", "m"),
            *limits.SERVER_ARGS,
        ),
        tmp_path / "log",
    )
    try:
        assert command.wait(240) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        command.kill()
    found = {line["custom_id"]: line for line in map(json.loads, answered.read_text().splitlines())}
    assert set(found) == {"0", "1"}
    assert found["0"]["response"]["status_code"] == 200
    assert found["0"]["response"]["body"]["usage"]["completion_tokens"] > 0
    assert found["1"]["response"]["status_code"] == 400
    assert "did you mean logit_bias?" in found["1"]["error"]["error"]["message"]
