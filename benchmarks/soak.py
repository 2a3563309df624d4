"""Hours of mixed load: does anything drift?

    python -m benchmarks.soak --minutes 60

Plain, sampled, structured, tool and streamed requests, aborts and bad requests, against a server
with the bundled model. All the while the same probes are asked, and must get the same texts. Every
few seconds it notes what each process takes and what the gauges say. Writes build/soak/soak.json,
build/soak/soak.md and docs/plots/soak.png. The exit status is 1 after another text, an internal
error, a dead process, or a gauge that is not at rest at the end.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import httpx
from tqdm import tqdm

from tests.fuzz.case import Answer, Case
from tests.fuzz.judge import choices
from tests.fuzz.live import LimitedServer, Sender

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "soak"
PLOT = ROOT / "docs" / "plots" / "soak.png"
MODEL = ROOT / "examples" / "models" / "tiny-diffusion"
# With these weights a text does not depend on what shares its batch.
SERVER_ARGS = ("--dtype", "float32")
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
REST_SECONDS = 20

LETTER = "Write a thank letter: sender eva, to omar, item lamp, city oslo, day friday."
FORM = {
    "type": "object",
    "properties": {
        "sender": {"type": "string", "maxLength": 12},
        "day": {"enum": ["monday", "friday"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["sender", "day", "count"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "send_mail", "parameters": FORM}}


def chat(text: str, **fields: Any) -> Case:
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, **fields}
    return Case("chat", "/v1/chat/completions", body)


def completion(prompt: str, **fields: Any) -> Case:
    return Case("completion", "/v1/completions", {"prompt": prompt, "temperature": 0, **fields})


PROBES = (
    completion("Dear omar,\n\nthank you", max_tokens=40),
    completion("Dear eva,", max_tokens=60, temperature=1.0, seed=7),
    completion("x", max_tokens=33, structured_outputs={"regex": "[a-f]{5,20}-[0-9]{3}"}),
    completion("x", max_tokens=8, structured_outputs={"choice": ["yes", "no", "émile"]}),
    completion("oslo", max_tokens=30, vllm_xargs={"diffusion_keywords": ["lamp"]}),
    completion("the", max_tokens=30, repetition_penalty=1.3, logit_bias={"40": 2}),
    chat(LETTER, max_tokens=60),
    chat(LETTER, max_tokens=60, stream=True),
    chat(
        LETTER,
        max_tokens=90,
        response_format={"type": "json_schema", "json_schema": {"name": "f", "schema": FORM}},
    ),
)
WRONG = (
    completion("x", max_tokens=-1),
    completion("x", temperature="hot"),
    completion("x", unknown_field=1),
    completion("x", structured_outputs={"regex": "("}),
    chat("x", vllm_xargs={"diffusion_policy": "none"}),
)


def drawn(rng: Random) -> Case:
    """A request of the load."""
    text = f"{LETTER} {rng.randrange(1000)}"
    free = {"temperature": rng.choice([0, 0.7, 1.5]), "seed": rng.randrange(10**6)}
    long = {"max_tokens": rng.randint(1, 120)}
    kinds: tuple[Callable[[], Case], ...] = (
        lambda: completion(text * rng.randint(1, 8), **long),
        lambda: chat(text, **long, **free),
        lambda: chat(text, **long, **free, stream=True),
        lambda: completion(text, **long, **free, n=2, logprobs=2),
        lambda: completion(text, max_tokens=120, structured_outputs={"json": FORM}, **free),
        lambda: completion(
            "x", max_tokens=64, structured_outputs={"regex": "[a-z]{3,9}(,[0-9]+)*"}
        ),
        lambda: chat(text, max_tokens=120, tools=[TOOL], tool_choice="required", **free),
        lambda: chat(text, max_tokens=120, tools=[TOOL], **free),
        lambda: rng.choice(WRONG),
    )
    return rng.choice(kinds)()


def texts_of(case: Case, answer: Answer) -> str:
    """What a probe's answer says, and how it ended."""
    return json.dumps([answer.status, choices_without_ids(case, answer)], sort_keys=True)


def choices_without_ids(case: Case, answer: Answer) -> list[Any]:
    return [(reason, m.get("text"), m.get("content")) for reason, m in choices(case, answer)]


class Soak:
    """The load, the probes and the records."""

    def __init__(self, server: LimitedServer, workers: int, seed: int) -> None:
        self.server, self.workers, self.seed = server, workers, seed
        self.sender = Sender(server.url, server.model, 120)
        self.is_over = threading.Event()
        self.counts: Counter[str] = Counter()
        self.samples: list[dict[str, Any]] = []
        self.mismatches: list[dict[str, Any]] = []
        self.started = time.monotonic()

    def gauges(self) -> dict[str, float]:
        found = dict.fromkeys(GAUGES, 0.0)
        text = self.sender.client.get("/metrics").text
        for name, value in re.findall(r"^vllm:(\w+)(?:\{[^}]*\})? (\S+)$", text, re.M):
            if name in found:
                found[name] += float(value)
        return found

    def sample(self) -> None:
        self.samples.append(
            {
                "seconds": round(time.monotonic() - self.started, 1),
                "rss": self.server.rss(),
                "gauges": self.gauges(),
                "requests": self.counts["requests"],
                "5xx": self.counts["5xx"],
            }
        )

    def count(self, answer: Answer) -> None:
        self.counts["requests"] += 1
        self.counts[f"{answer.status // 100}xx" if answer.status else "no answer"] += 1

    def load(self, number: int) -> None:
        rng = Random(f"{self.seed}/{number}")
        while not self.is_over.is_set():
            case = drawn(rng)
            if rng.random() < 0.1:
                self.hang_up(case, rng.random() * 0.3)
            else:
                self.count(self.sender(case))

    def hang_up(self, case: Case, seconds: float) -> None:
        """A client that leaves before its answer is there."""
        body = {"model": self.server.model, **case.body, "stream": True, "max_tokens": 200}
        self.counts["hung up"] += 1
        try:
            with httpx.stream("POST", self.server.url + case.route, json=body, timeout=30) as reply:
                deadline = time.monotonic() + seconds
                for _ in reply.iter_raw():
                    if time.monotonic() > deadline:
                        break
        except httpx.HTTPError:
            self.counts["no answer"] += 1

    def probe(self, expected: list[str]) -> None:
        while not self.is_over.is_set():
            for case, want in zip(PROBES, expected, strict=True):
                if self.is_over.is_set():
                    return
                answer = self.sender(case)
                self.count(answer)
                self.counts["probes"] += 1
                got = texts_of(case, answer)
                if got != want:
                    self.mismatches.append({"case": case.to_json(), "got": got, "want": want})

    def run(self, minutes: float, every: float) -> None:
        expected = [texts_of(case, self.sender(case)) for case in PROBES]
        threads = [threading.Thread(target=self.load, args=(n,)) for n in range(self.workers)]
        threads.append(threading.Thread(target=self.probe, args=(expected,)))
        self.sample()
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60 * minutes
        with tqdm(total=round(60 * minutes), unit="s") as bar:
            while (left := deadline - time.monotonic()) > 0 and not self.server.lost():
                time.sleep(min(every, left))
                self.sample()
                bar.n = min(bar.total, round(time.monotonic() - self.started))
                bar.set_postfix(
                    requests=self.counts["requests"],
                    mismatches=len(self.mismatches),
                    errors=self.counts["5xx"],
                )
        self.is_over.set()
        for thread in threads:
            thread.join()

    def rest(self) -> dict[str, float]:
        """The gauges once nobody asks: waited for, and noted."""
        deadline = time.monotonic() + REST_SECONDS
        while any(self.gauges().values()) and time.monotonic() < deadline:
            time.sleep(0.5)
        self.sample()
        found: dict[str, float] = self.samples[-1]["gauges"]
        return found

    def faults(self) -> list[str]:
        """What makes this run fail."""
        found = []
        if self.server.lost():
            return ["a process of the server ended"]
        if self.mismatches:
            found.append(f"{len(self.mismatches)} probes with another text")
        if self.counts["5xx"] or self.counts["no answer"]:
            found.append(f"{self.counts['5xx']} times 5xx, {self.counts['no answer']} no answer")
        stuck = {name: value for name, value in self.rest().items() if value}
        return [*found, *(f"{name} stays at {value}" for name, value in stuck.items())]


def table(soak: Soak) -> str:
    """Memory by process at four times, as Markdown."""
    picked = [soak.samples[len(soak.samples) * part // 4] for part in range(4)]
    picked.append(soak.samples[-1])
    lines = ["| | " + " | ".join(f"{one['seconds'] / 60:.0f} min" for one in picked) + " |"]
    lines.append("|---" * (len(picked) + 1) + "|")
    for name in soak.samples[0]["rss"]:
        cells = (f"{one['rss'].get(name, 0) / 2**20:.0f} MiB" for one in picked)
        lines.append(f"| {label(name)} | " + " | ".join(cells) + " |")
    lines.append("| requests | " + " | ".join(str(one["requests"]) for one in picked) + " |")
    counts = ", ".join(f"{what} {count}" for what, count in sorted(soak.counts.items()))
    return "\n".join([*lines, "", f"{counts}; mismatches {len(soak.mismatches)}"])


def label(process: str) -> str:
    return process.rpartition(" ")[0].removeprefix("VLLM::")


def draw(soak: Soak, path: Path) -> None:
    """Memory above, gauges below, over time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    minutes = [one["seconds"] / 60 for one in soak.samples]
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    for name in soak.samples[0]["rss"]:
        sizes = [one["rss"].get(name, 0) / 2**20 for one in soak.samples]
        if max(sizes) > 50:  # not the interpreter that tracks shared memory
            above.plot(minutes, sizes, label=label(name))
    above.set_ylabel("resident memory, MiB")
    above.set_ylim(bottom=0)
    above.legend()
    for name in GAUGES[:2]:
        below.plot(minutes, [one["gauges"][name] for one in soak.samples], label=name, lw=0.8)
    usage = [100 * one["gauges"][GAUGES[2]] for one in soak.samples]
    below.plot(minutes, usage, label="KV cache, %", lw=0.8)
    below.set_xlabel("minutes")
    below.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--every", type=float, default=5, help="seconds between samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--plot", type=Path, default=PLOT)
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    server = LimitedServer(args.model, FOLDER / "server.txt", *SERVER_ARGS)
    try:
        server.wait_until_healthy()
        soak = Soak(server, args.workers, args.seed)
        soak.run(args.minutes, args.every)
        faults = soak.faults()
    finally:
        server.kill()
    record = {
        "minutes": args.minutes,
        "seed": args.seed,
        "counts": soak.counts,
        "faults": faults,
        "mismatches": soak.mismatches[:50],
        "samples": soak.samples,
    }
    (FOLDER / "soak.json").write_text(json.dumps(record) + "\n")
    (FOLDER / "soak.md").write_text(table(soak) + "\n")
    draw(soak, args.plot)
    print(table(soak))
    for fault in faults:
        print("FAULT:", fault)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
