"""What happens when a process is killed, the server asked to end, or a client does not read.

``docs/reliability.md`` has a row for each. The servers are forked, engine core and worker too; what
a spawned process does otherwise stands there.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import psutil
import pytest

from tests.server import limits
from tests.server.client import Client, together
from tests.server.counters import Counters, eventually
from tests.server.process import ServerProcess, StartedAhead
from vllm_diffusion.server.ending import UNREAD_SECONDS

SERVERS = ("kept", "worker", "core", "api", "ranks", "draining")
CORE, WORKER = "VLLM::EngineCore", "VLLM::Worker"
KV_BYTES = 10 * limits.PAGE * 1024
"""Of 1,024 bytes a token: 10 pages, of which vLLM keeps one and a long request needs 8."""
DRAIN_SECONDS = 2
DEATH_SECONDS = 10
"""Within which a server has ended whose engine has died."""
LONG = {"max_tokens": 950, "ignore_eos": True, "vllm_xargs": {"diffusion_threshold": 1.0}}
ONE_STEP = {"ignore_eos": True, "vllm_xargs": {"diffusion_threshold": 0.0}}
SHORT = LONG | {"max_tokens": 40}
UNREAD = {"max_tokens": 900, "n": limits.MAX_SEQS, "logprobs": 20} | ONE_STEP
"""More events than a connection holds that nobody reads."""
ENGINE_DIED = "EngineCore encountered an issue"
CODES = {500: "internal_error", 503: "server_overloaded"}
SHUTTING_DOWN = "The server is shutting down; send the request again"


class Seen(NamedTuple):
    """What a client got."""

    status: int | None
    """None where the connection broke off before there was one."""
    text: str
    seconds: float


@pytest.fixture(scope="module")
def ahead(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedAhead]:
    def start(name: str) -> ServerProcess:
        drain = ("--shutdown-timeout", str(DRAIN_SECONDS)) if name == "draining" else ()
        memory = ("--kv-cache-memory-bytes", str(KV_BYTES)) if name == "kept" else ()
        ranks = ("--tensor-parallel-size", "2") if name == "ranks" else ()
        log = tmp_path_factory.mktemp(name) / "log"
        args = (*limits.SERVER_ARGS, *memory, *drain, *ranks)
        return ServerProcess(random_model, log, *args, fault="slow steps")

    servers = StartedAhead(SERVERS, start)
    yield servers
    servers.close()


def process_of(server: ServerProcess, title: str) -> psutil.Process:
    behind = psutil.Process(server.process.pid).children(recursive=True)
    return next(each for each in behind if title in " ".join(each.cmdline()))


def post(client: Client, begin: float, started: Event, **fields: Any) -> Seen:
    body = {"model": client.model, "prompt": [40] * 20, "temperature": 0} | fields
    connection = http.client.HTTPConnection(client.url.removeprefix("http://"), timeout=60)
    status, text = None, ""
    try:
        connection.request(
            "POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"}
        )
        response = connection.getresponse()
        status = response.status
        while line := response.readline():
            text += line.decode()
            started.set()
    except (OSError, http.client.HTTPException):
        pass
    return Seen(status, text, time.monotonic() - begin)


def during(
    client: Client, fault: Callable[[], object], body: dict[str, Any] = LONG
) -> tuple[list[Seen], list[Seen]]:
    """What three streams of a long text got and two requests without, when the fault came."""
    begin, started = time.monotonic(), Event()
    ask = partial(post, client, begin, started)
    with ThreadPoolExecutor(5) as pool:
        streams = [pool.submit(ask, stream=True, **LONG) for _ in range(3)]
        others = [pool.submit(ask, **each) for each in (LONG, body)]
        assert started.wait(30)
        time.sleep(0.1)  # all have arrived
        fault()
        return [each.result() for each in streams], [each.result() for each in others]


def end_of(server: ServerProcess, seconds: float = 20) -> int:
    """Its exit status, once nothing of it is left."""
    code = server.process.wait(seconds)
    assert eventually(lambda: not server.group_is_alive, seconds), "a process was left behind"
    return code


def last_events(seen: Seen) -> list[str]:
    return [line for line in seen.text.splitlines() if line][-2:]


def assert_told(streams: list[Seen], others: list[Seen], status: int, message: str) -> None:
    """A stream ends with an error event, a response is one; in OpenAI's envelope."""
    for seen in streams:
        error, done = last_events(seen)
        assert seen.status == 200
        told = json.loads(error.removeprefix("data: "))["error"]
        assert (told["type"], told["code"]) == ("server_error", CODES[status])
        assert message in error
        assert done == "data: [DONE]"
    for seen in others:
        assert seen.status == status
        assert message in json.loads(seen.text)["error"]["message"]


def client_of(server: ServerProcess) -> Client:
    client = Client(server.url, server.model)
    client.complete([9], max_tokens=1)  # what is made with the first request is there
    return client


def test_out_of_kv_memory(ahead: StartedAhead) -> None:
    """Requests take turns, and none gets another text."""
    client = client_of(ahead.take("kept"))
    prompts = [[40 + n] * 20 for n in range(4)]
    fields = {"max_tokens": 900, "ignore_eos": True, "diffusion_threshold": 0.0}
    alone = [client.complete(prompt, **fields).token_ids for prompt in prompts]
    calls = [lambda p=prompt: client.complete(p, **fields).token_ids for prompt in prompts]
    assert together(calls) == alone
    assert eventually(lambda: Counters.read(client.url)("num_preemptions_total") > 0)


def test_asked_to_end_beside_a_client_that_does_not_read(ahead: StartedAhead) -> None:
    """Requests that run get an error; the server waits some seconds for the one that stands."""
    server = ahead.take("kept")
    client = client_of(server)
    body = {"model": client.model, "prompt": [40] * 20, "stream": True} | UNREAD
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
    with socket.socket() as unread:
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        unread.connect(("127.0.0.1", server.port))
        unread.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + content)
        # It is computed to its end, and others are served.
        made = lambda: Counters.read(client.url)("generation_tokens_total")  # noqa: E731
        assert eventually(lambda: made() > UNREAD["max_tokens"] * limits.MAX_SEQS)
        assert client.complete([41], max_tokens=8).token_ids
        streams, others = during(client, lambda: server.process.send_signal(signal.SIGTERM))
        asked = time.monotonic()
        assert_told(streams, others, 503, SHUTTING_DOWN)
        assert end_of(server) == 0
        assert UNREAD_SECONDS - 2 < time.monotonic() - asked < UNREAD_SECONDS + 5


@pytest.mark.parametrize(
    ("name", "title"), [("worker", WORKER), ("core", CORE), ("ranks", "VLLM::Worker_TP1")]
)
def test_the_engine_dies(ahead: StartedAhead, name: str, title: str) -> None:
    check_death(ahead.take(name), title)


def check_death(server: ServerProcess, title: str) -> None:
    """Its clients are told, and so is whoever would start it again."""
    killed: list[float] = []

    def kill() -> None:
        process_of(server, title).kill()
        killed.append(time.monotonic())

    streams, others = during(client_of(server), kill)
    assert_told(streams, others, 500, ENGINE_DIED)
    assert end_of(server) == 1
    assert time.monotonic() - killed[0] < DEATH_SECONDS
    assert "The engine has died, so this server ends with exit code 1." in server.log.read_text()


def test_the_api_server_dies(ahead: StartedAhead) -> None:
    """Connections break off, and nothing is left that would hold memory or the port."""
    server = ahead.take("api")
    streams, others = during(client_of(server), server.process.kill)
    assert all("[DONE]" not in seen.text for seen in streams)
    assert [seen.status for seen in others] == [None, None]
    assert end_of(server) == -signal.SIGKILL


def test_a_rolling_restart(ahead: StartedAhead, random_model: Path, tmp_path: Path) -> None:
    """What fits into ``--shutdown-timeout`` comes to its end, the rest gets an error then.

    What comes after the signal is refused. Another server takes the port, whose worker is in the
    engine core; it ends with that, like others.
    """
    server = ahead.take("draining")
    client = client_of(server)
    before = client.complete([44] * 9).token_ids

    def ask_to_end() -> None:
        server.process.send_signal(signal.SIGTERM)
        refused = lambda: post(client, 0, Event(), max_tokens=1)  # noqa: E731
        assert eventually(lambda: refused().status == 503, DRAIN_SECONDS)
        assert SHUTTING_DOWN in refused().text

    streams, (cut, whole) = during(client, ask_to_end, body=SHORT)
    assert_told(streams, [cut], 503, SHUTTING_DOWN)
    assert whole.status == 200
    assert json.loads(whole.text)["choices"][0]["finish_reason"] == "length"
    assert DRAIN_SECONDS - 1 < cut.seconds < DRAIN_SECONDS + 5
    assert end_of(server) == 0
    args = (*limits.SERVER_ARGS, "--distributed-executor-backend", "uni")
    again = ServerProcess(
        random_model, tmp_path / "log", *args, fault="slow steps", port=server.port
    )
    try:
        again.wait_until_healthy()
        assert client.complete([44] * 9).token_ids == before
        check_death(again, CORE)
    finally:
        again.kill()
