"""What a server does whose worker or engine core was killed, by how it is spread.

    python -m tests.scale.deaths [--cases mp uni] [--json FILE] [--docs]

Each case is a server as users start it, three streams and a response that run, and SIGKILL to one
process. Every part of a case that is not as docs/reliability.md promises makes the exit status 1.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import psutil

from benchmarks.serving import machine
from benchmarks.serving.markdown import replace_section
from tests.server.process import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples" / "models" / "tiny-diffusion"
PAGE = ROOT / "docs" / "reliability.md"
SECTION = "deaths"
WITHIN = 10.0
"""Seconds in which the server has to have ended."""
NUM_STREAMS = 3
OPTIONS = (
    *("--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "8"),
    *("--kv-cache-memory-bytes", str(64 << 20)),
)
LONG = {
    **{"prompt": [40] * 20, "max_tokens": 1900, "ignore_eos": True, "temperature": 0},
    "vllm_xargs": {"diffusion_threshold": 1.0},
}
BROKEN_OFF, FINISHED = "broken off", "finished:"
UNI = ("--distributed-executor-backend", "uni")
MP = ("--distributed-executor-backend", "mp")
TP = ("--tensor-parallel-size", "2")
DP = ("--data-parallel-size", "2")
ONE_FRONT_END = ("--api-server-count", "1")
CORE, WORKER, API = "VLLM::EngineCore", "VLLM::Worker", "VLLM::APIServer"
CAPTION = """`python -m tests.scale.deaths --docs`, {date}, commit {commit}: `vllm serve` on the
bundled model, {streams} streams and a response running, SIGKILL to one process. Seconds from the
signal: until every client was told, until the exit, until none of its processes was left."""


@dataclass(frozen=True)
class Case:
    """A server and the process of it that is killed."""

    options: tuple[str, ...]
    victim: str
    """What the process's title begins with; the last one of them is killed."""

    @property
    def title(self) -> str:
        return " ".join(self.options)

    @property
    def killed(self) -> str:
        return self.victim.removeprefix("VLLM::")


CASES = {
    "uni core": Case(UNI, CORE),
    "mp worker": Case(MP, WORKER),
    "mp core": Case(MP, CORE),
    "TP worker": Case(TP, WORKER),
    "TP core": Case(TP, CORE),
    "DP worker": Case((*DP, *MP), WORKER),
    "DP core": Case(DP, CORE),
    "DP api": Case(DP, API),
    "DP uni core": Case((*DP, *UNI), CORE),
    "DP one front end": Case((*DP, *ONE_FRONT_END), CORE),
}


@dataclass(frozen=True)
class Seen:
    """What a client got, and when it was over."""

    status: int | None
    text: str
    at: float

    @property
    def told(self) -> str:
        """In a word or two."""
        if self.status is None:
            return BROKEN_OFF
        if self.status != 200:
            return f"status {self.status}"
        *events, last = [line.removeprefix("data: ") for line in self.text.split("\n\n") if line]
        if self.text.startswith("data: ") and last != "[DONE]":
            return BROKEN_OFF
        event = json.loads(events[-1] if events else last)
        if error := event.get("error"):
            return f"event {error['code']}"
        return f"{FINISHED} {event['choices'][0]['finish_reason']}"


@dataclass(frozen=True)
class Outcome:
    """How a case went."""

    told: tuple[str, ...]
    told_seconds: float
    code: int | None
    """Exit code; None where it did not end."""
    exit_seconds: float
    gone_seconds: float | None

    def is_right(self, case: Case) -> bool:
        """Every client has an error, and the supervisor a code, in time."""
        # Nobody is left who could say it better than the kernel.
        wrong = FINISHED if case.victim == API else (FINISHED, BROKEN_OFF)
        has_errors = not any(each.startswith(wrong) for each in self.told)
        is_in_time = max(self.exit_seconds, self.told_seconds) <= WITHIN
        return has_errors and is_in_time and self.code not in (None, 0)


def ask(port: int, started: Event, body: dict[str, Any]) -> Seen:
    """One request to its end, whatever that is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    status, text = None, ""
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        response = connection.getresponse()
        status = response.status
        while line := response.readline():
            text += line.decode()
            started.set()
    except (OSError, http.client.HTTPException):
        pass
    return Seen(status, text, time.monotonic())


def victim(server: ServerProcess, title: str) -> psutil.Process:
    """The last process of this title: of several ranks the one that answers nobody."""
    behind = psutil.Process(server.process.pid).children(recursive=True)
    found = {" ".join(each.cmdline()): each for each in behind}
    return found[max(name for name in found if name.startswith(title))]


def seconds_until_gone(server: ServerProcess, since: float) -> float | None:
    while server.group_is_alive:
        if time.monotonic() - since > 6 * WITHIN:
            return None
        time.sleep(0.05)
    return time.monotonic() - since


def run(case: Case, log: Path) -> Outcome:
    """Start a server, kill a part of it, and watch."""
    server = ServerProcess(MODEL, log, *OPTIONS, *case.options, is_forked=False)
    try:
        server.wait_until_healthy()
        body = LONG | {"model": server.model}
        started = [Event() for _ in range(NUM_STREAMS)]
        with ThreadPoolExecutor(NUM_STREAMS + 1) as pool:
            asked = partial(pool.submit, ask, server.port)
            # What is made with the first request is there, in each engine.
            short = [asked(Event(), body | {"max_tokens": 1}) for _ in range(NUM_STREAMS + 1)]
            assert [each.result().status for each in short] == [200] * len(short)
            clients = [asked(event, body | {"stream": True}) for event in started]
            clients.append(asked(Event(), body))
            for event in started:
                assert event.wait(60), "no stream has begun"
            begin = time.monotonic()
            victim(server, case.victim).kill()
            code = _exit_code(server)
            exit_seconds = time.monotonic() - begin
            gone = seconds_until_gone(server, begin)
            server.kill()
            seen = [client.result() for client in clients]
        told_seconds = max(each.at for each in seen) - begin
        told = tuple(each.told for each in seen)
        return Outcome(told, told_seconds, code, exit_seconds, gone)
    finally:
        server.kill()


def _exit_code(server: ServerProcess) -> int | None:
    deadline = time.monotonic() + 3 * WITHIN
    while server.is_alive and time.monotonic() < deadline:
        time.sleep(0.02)
    return server.process.poll()


def as_table(outcomes: dict[str, Outcome]) -> str:
    lines = [
        "| server | killed | streams | response | told | exit code | ended | gone |",
        "|---|---|---|---|---:|---:|---:|---:|",
    ]
    for name, found in outcomes.items():
        case = CASES[name]
        *streams, response = found.told
        gone = "no" if found.gone_seconds is None else f"{found.gone_seconds:.1f}"
        cells = (
            *(f"`{case.title}`", f"`{case.killed}`", ", ".join(sorted(set(streams))), response),
            *(f"{found.told_seconds:.1f}", str(found.code), f"{found.exit_seconds:.1f}", gone),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def outcomes_of(names: list[str], folder: Path) -> Iterator[tuple[str, Outcome]]:
    for name in names:
        found = run(CASES[name], folder / f"{name.replace(' ', '-')}.log")
        print(f"{name}: {found}{'' if found.is_right(CASES[name]) else '  WRONG'}", flush=True)
        yield name, found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=[], help="what their names begin with")
    parser.add_argument("--logs", type=Path, help="a folder where the servers' logs are kept")
    parser.add_argument("--json", type=Path, help="keep outcomes here, beside those of other cases")
    parser.add_argument("--docs", action="store_true", help="write the table of the page")
    arguments = parser.parse_args()
    known = Path(arguments.json) if arguments.json else None
    outcomes: dict[str, Outcome] = {}
    if known and known.is_file():
        outcomes = {name: Outcome(**each) for name, each in json.loads(known.read_text()).items()}
    names = [name for name in CASES if name.startswith(tuple(arguments.cases) or "")]
    with tempfile.TemporaryDirectory(prefix="deaths-") as folder:
        for name, found in outcomes_of(names, arguments.logs or Path(folder)):
            outcomes[name] = found
            if known:
                kept = {each: asdict(outcome) for each, outcome in outcomes.items()}
                known.write_text(json.dumps(kept, indent=1) + "\n")
    table = as_table({name: outcomes[name] for name in CASES if name in outcomes})
    print(table)
    if arguments.docs:
        facts = machine.describe("-m tests.scale.deaths", {})
        caption = CAPTION.format(**facts, streams=NUM_STREAMS)
        replace_section(PAGE, SECTION, f"{caption}\n\n{table}")
    return 0 if all(outcomes[name].is_right(CASES[name]) for name in names) else 1


if __name__ == "__main__":
    sys.exit(main())
