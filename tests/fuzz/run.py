"""One run: a server, cases sent to it several at a time, and what was found."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.fuzz.case import Answer, Case, Finding
from tests.fuzz.judge import FULL, choices, is_cut, judge
from tests.fuzz.live import LimitedServer, Sender, Watcher
from tests.fuzz.shrink import shrink

TIMEOUT = 60
MAX_RESTARTS = 30
LONG_TEXT = 1200
"""Tokens for a text that was cut, to see whether it would have ended."""
COLLECTIVE = {"dead", "hang", "memory", "wait", "health wait"}
"""Faults that show in other requests as well: each suspect is asked again, alone."""


class Run:
    """Keeps a server up; one that has died or hangs is started again."""

    def __init__(
        self,
        model: Path,
        folder: Path,
        *,
        seed: int = 0,
        workers: int = 4,
        is_forked: bool = False,
        timeout: float = TIMEOUT,
        confirms: bool = True,
    ) -> None:
        self.model, self.folder, self.seed, self.workers = model, folder, seed, workers
        self.is_forked, self.timeout, self.confirms = is_forked, timeout, confirms
        self.findings: list[Finding] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.results: dict[str, str] = {}
        """By the case's name: a fault, or what else came of it."""
        self.restarts = 0
        self.top_rss = 0
        self.longest = {"wait": 0.0, "health wait": 0.0}
        self.in_flight: dict[str, tuple[Case, float]] = {}
        self.recent: list[tuple[Case, float, float]] = []
        self.lock = threading.Lock()
        self.started = time.monotonic()
        self.server = self._start()
        self.first_rss = self.server.rss()

    def _start(self) -> LimitedServer:
        log = self.folder / f"server-{self.restarts}.txt"
        server = LimitedServer(self.model, log, is_forked=self.is_forked)
        server.wait_until_healthy()
        self.sender = Sender(server.url, server.model, self.timeout)
        return server

    def close(self) -> None:
        self.last_rss = self.server.rss()
        self.server.kill()

    def restart(self) -> None:
        self.server.kill()
        self.restarts += 1
        if self.restarts > MAX_RESTARTS:
            raise SystemExit(f"the server ended {MAX_RESTARTS} times")
        self.server = self._start()

    @property
    def is_dead(self) -> bool:
        return bool(self.server.lost()) or not self.server.process.is_healthy

    def drive(self, cases: Iterable[Case], bar: Any = None) -> None:
        """Send all cases, ``workers`` at a time."""
        stream = iter(cases)
        is_left = True
        while is_left:
            is_left = self._drive(stream, bar)
            if self.trouble:
                self._look_into_it(bar)

    def _drive(self, stream: Any, bar: Any) -> bool:
        """Until there are no cases left, or trouble that all of them are in."""
        self.trouble: list[tuple[str, str, list[Case]]] = []
        pending: set[Future[None]] = set()
        with (
            Watcher(Sender(self.server.url, self.server.model, 30), self.server) as watcher,
            ThreadPoolExecutor(self.workers) as pool,
        ):
            is_left = True
            while is_left and not self.trouble:
                while len(pending) < self.workers and is_left:
                    case = next(stream, None)
                    is_left = case is not None
                    if case is not None:
                        pending.add(pool.submit(self._ask, case, bar))
                done, pending = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                self._look_at(watcher)
            wait(pending)
            self._look_at(watcher)
        self.top_rss = max(self.top_rss, watcher.top_rss)
        for what, seconds in watcher.longest.items():
            self.longest[what] = max(self.longest[what], seconds)
        return is_left

    def _look_at(self, watcher: Watcher) -> None:
        """Turn what the watcher saw into trouble, with whoever was being served then."""
        if watcher.greedy:
            self.trouble.append(("memory", watcher.greedy, self.suspects(time.monotonic())))
            watcher.greedy = None
        elif self.server.lost():
            self.trouble.append(("dead", "a process ended", self.suspects(time.monotonic())))
        while watcher.waits:
            one = watcher.waits.pop()
            said = f"{one.what} of {one.seconds:.1f} s"
            self.trouble.append((one.what, said, self.suspects(one.start, one.seconds)))

    def suspects(self, start: float, seconds: float = 0) -> list[Case]:
        """Cases that were being served at that time."""
        with self.lock:
            now = [(case, since, time.monotonic()) for case, since in self.in_flight.values()]
            spans = self.recent + now
        end = start + seconds
        return [case for case, since, until in spans if since <= end and until >= start]

    def _ask(self, case: Case, bar: Any) -> None:
        key = f"{case.name}-{threading.get_ident()}"
        start = time.monotonic()
        with self.lock:
            self.in_flight[key] = (case, start)
        answer = self.sender(case)
        with self.lock:
            del self.in_flight[key]
            self.recent = [*self.recent[-200:], (case, start, time.monotonic())]
        self.settle(case, answer, bar)

    def settle(self, case: Case, answer: Answer, bar: Any = None) -> list[Finding]:
        """Judge an answer and keep what is wrong with it."""
        found = judge(case, answer)
        if is_cut(case, answer):
            found += self.unfinished(case, answer)
        with self.lock:
            self.results[case.name] = outcome(case, answer, found)
            self.counts[case.kind, self.results[case.name]] += 1
            for one in found:
                if one.fault == "hang":
                    self.trouble.append(("hang", one.detail, [case]))
                else:
                    self.keep(one)
        if bar is not None:
            bar.update()
            bar.set_postfix(findings=len(self.findings), restarts=self.restarts)
        return found

    def keep(self, finding: Finding) -> None:
        self.findings.append(finding)
        finding.save(self.folder, self.seed)

    def unfinished(self, case: Case, answer: Answer) -> list[Finding]:
        """A text that was cut: does one of the same constraint fit into so many tokens?"""
        limit = case.body.get("max_tokens")
        if not isinstance(limit, int) or limit >= LONG_TEXT:
            return []
        body = {key: value for key, value in case.body.items() if key != "stream"}
        longer = replace(case, body=body | {"max_tokens": LONG_TEXT})
        again = self.sender(longer)
        ends = [reason for reason, _ in choices(longer, again)]
        if again.status != 200 or not set(ends) <= FULL:
            return []
        used = json.loads(again.text)["usage"]["completion_tokens"]
        if used > limit:
            return []
        return [Finding("unfinished", f"{used} of {limit} tokens would do", case, answer)]

    def _look_into_it(self, bar: Any) -> None:
        """Ask every suspect again, alone: who did it?"""
        time.sleep(1)
        if self.is_dead:
            self.restart()
        trouble, self.trouble = self.trouble, []
        suspects = {case.name: case for _, _, cases in trouble for case in cases}
        fault, detail, _ = min(trouble, key=lambda one: list(COLLECTIVE_ORDER).index(one[0]))
        if not self.confirms:
            for case in suspects.values():
                self.keep(Finding(fault, f"{detail}; a suspect", case, Answer(0, "", 0)))
            return
        for case in suspects.values():
            if bar is not None:
                bar.set_postfix(looking_into=case.name)
            self.confirm(case)
        if not suspects:
            self.counts["-", f"{fault}, by nobody"] += 1

    def confirm(self, case: Case) -> None:
        """Send a suspect alone, and keep what it does to the server and to others."""
        self.trouble = []
        with Watcher(Sender(self.server.url, self.server.model, 30), self.server) as watcher:
            time.sleep(0.3)
            answer = self.sender(case)
            time.sleep(0.3)
        faults = {one.what: f"{one.seconds:.1f} s" for one in watcher.waits}
        if answer.status == 0 and answer.seconds >= self.timeout:
            faults = {"hang": f"no answer in {answer.seconds:.0f} s"}
        if watcher.greedy:
            faults = {"memory": watcher.greedy}
        elif self.is_dead:
            faults = {"dead": "ended" if self.server.lost() else "no answer on /health"}
        for fault, detail in faults.items():
            self.keep(Finding(fault, detail, case, answer))
            self.counts[case.kind, fault] += 1
            self.results[case.name] = fault
        if not faults:
            self.counts[case.kind, "suspected, not confirmed"] += 1
        if {"hang", "memory", "dead"} & faults.keys():
            self.restart()

    def make_smaller(self, most: int = 12) -> None:
        """Shrink one finding of each fault and kind, while the server is up."""
        seen: set[tuple[str, str]] = set()
        for number, one in enumerate(self.findings):
            key = (one.fault, one.case.kind)
            if one.fault in COLLECTIVE or key in seen or len(seen) >= most or self.is_dead:
                continue
            seen.add(key)
            least = shrink(one.case, lambda case, fault=one.fault: self.has(case, fault))
            answer = self.sender(least)
            found = [f for f in judge(least, answer) if f.fault == one.fault]
            if found and least != one.case:
                found[0].save(self.folder / "small", self.seed)
                self.findings[number] = found[0]

    def has(self, case: Case, fault: str) -> bool:
        return any(one.fault == fault for one in judge(case, self.sender(case)))

    def summary(self) -> str:
        """A table of outcomes by kind, and the run's figures."""
        kinds = sorted({kind for kind, _ in self.counts})
        rows = sorted({what for _, what in self.counts})
        width = max([len(row) for row in rows] + [8])
        lines = [f"{'':{width}} " + " ".join(f"{kind:>8}" for kind in kinds)]
        for row in rows:
            cells = " ".join(f"{self.counts[kind, row] or '':>8}" for kind in kinds)
            lines.append(f"{row:{width}} {cells}")
        sent = sum(self.counts.values())
        minutes = (time.monotonic() - self.started) / 60
        lines.append(
            f"seed {self.seed}: {sent} requests in {minutes:.1f} minutes, "
            f"{len(self.findings)} findings, {self.restarts} restarts"
        )
        lines.append(
            f"another client waited {self.longest['wait']:.2f} s at most, /health took "
            f"{self.longest['health wait']:.2f} s at most, a process had "
            f"{self.top_rss >> 20} MiB at most"
        )
        if not self.restarts:
            for name, first in self.first_rss.items():
                last = self.last_rss.get(name, 0)
                lines.append(f"  {name}: {first >> 20} MiB at first, {last >> 20} MiB at last")
        for one in self.findings[:40]:
            lines.append(f"{one.fault}: {one.case.name}: {one.detail[:160]}")
        return "\n".join(lines)


COLLECTIVE_ORDER = ("dead", "memory", "hang", "wait", "health wait")


def outcome(case: Case, answer: Answer, found: list[Finding]) -> str:
    """A word for the table."""
    if found:
        return found[0].fault
    if answer.status != 200:
        return f"refused {answer.status}"
    ends = {reason for reason, _ in choices(case, answer)}
    return "cut short" if "length" in ends and case.constraint else "right"
