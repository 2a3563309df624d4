"""Flags of the command line take effect, a bad one ends it with the reason, SIGTERM ends it well.

These servers are started for one test each, eagerly, in the model's own bfloat16.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from tests.server.client import Client
from tests.server.counters import eventually
from tests.server.process import ServerProcess

pytestmark = pytest.mark.slow

SMALL = ("--enforce-eager", "--kv-cache-memory-bytes", str(64 << 20), "--max-model-len", "1000")


@pytest.fixture
def start(tiny_diffusion: Path, tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    started: list[ServerProcess] = []

    def run(*args: str) -> ServerProcess:
        log = tmp_path / f"log-{len(started)}"
        started.append(ServerProcess(tiny_diffusion, log, *SMALL, *args))
        return started[-1]

    yield run
    for process in started:
        process.kill()


def test_flags_and_a_clean_end(start: Callable[..., ServerProcess], tiny_diffusion: Path) -> None:
    options = {"diffusion": {"policy": "static", "max_steps": 2}}
    server = start(
        *("--diffusion-config", json.dumps({"canvas_length": 8})),
        *("--additional-config", json.dumps(options)),
    )
    refused = start("--additional-config", json.dumps({"diffusion": {"tau": 0.5}}))
    server.wait_until_healthy()

    client = Client(server.url, tiny_diffusion.name)
    answer = client.complete([20] * 8, max_tokens=32, ignore_eos=True)
    assert len(answer.token_ids) == 32
    assert answer.diffusion["blocks_by_steps"] == {"2": 4}
    log = server.log_tail(10_000)
    assert "max_model_len is 1000" not in log  # 125 blocks of 8
    assert "blocks of 8, policy static, threshold 0, at most 2 steps a block" in log

    stream = client.completion([20], stream=True, max_tokens=900, ignore_eos=True)
    next(stream)
    rest: list[object] = []
    reader = threading.Thread(target=lambda: rest.append(_read(stream)))
    reader.start()
    status = server.terminate()
    reader.join(60)
    assert not reader.is_alive()
    assert status == 0, server.log_tail()
    assert eventually(lambda: not server.group_is_alive), "a process of the server is left"
    assert "Traceback" not in server.log_tail(10_000)

    assert refused.process.wait(120) != 0
    log = refused.log_tail(10_000)
    assert "tau=0.5 is not valid: this field is not known; known are policy, threshold" in log


def _read(stream: object) -> object:
    """What a client sees of a stream whose server goes away: its end, or an error of the client."""
    try:
        return list(stream)  # type: ignore[call-overload]
    except (openai.APIError, OSError) as error:
        return error
    except Exception as error:  # noqa: BLE001  (httpx's own, which openai does not wrap)
        assert type(error).__module__.startswith("httpx")
        return error
