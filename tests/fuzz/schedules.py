"""Random schedules: arrivals, lengths, aborts, preemptions and budgets, for every family, offline.

    python -m tests.fuzz.schedules --count 2000 [--seed N] [--families sdar,llada]

Whatever else an engine serves, a request's text is the one that it has alone. A schedule that shows
otherwise is made smaller while it still does, and printed; ``--replay FILE`` runs it again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from tests.fuzz.requests import Asked, draw_request

if TYPE_CHECKING:
    from tests.parity.engines import Engine
    from tests.parity.families import Family

MAX_LEN = 192
MAX_STEPS = 4000
ROOMY: dict[str, Any] = {"skip_tokenizer_init": False, "max_model_len": MAX_LEN}
TIGHT: tuple[dict[str, Any], ...] = (
    {"num_gpu_blocks_override": 8, "max_num_seqs": 4},
    {"num_gpu_blocks_override": 10, "max_num_seqs": 8, "max_num_batched_tokens": 48},
)
"""Caches that hold one long request and a bit, and budgets that cut prompts."""


@dataclass(frozen=True)
class Schedule:
    """Requests by the step that they arrive at, and what else happens."""

    family: str
    engine: int
    """Which of ``TIGHT``; -1 is the roomy one."""
    requests: tuple[tuple[int, Asked], ...]
    aborts: tuple[tuple[int, int], ...] = ()
    """Step, request."""
    losses: tuple[int, ...] = ()
    """Steps before which all running requests lose their K and V."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Schedule:
        requests = tuple((step, Asked(**asked)) for step, asked in data["requests"])
        aborts = tuple((step, number) for step, number in data["aborts"])
        return cls(data["family"], data["engine"], requests, aborts, tuple(data["losses"]))


def draw(family: Family, rng: Random) -> Schedule:
    """A schedule of some requests."""
    number = rng.randint(2, 6)
    requests = tuple(
        (rng.choice([0, 0, rng.randrange(30)]), draw_request(family, rng, MAX_LEN))
        for _ in range(number)
    )
    aborts = tuple((rng.randrange(1, 30), at) for at in range(number) if rng.random() < 0.12)
    losses = tuple(sorted(rng.sample(range(1, 25), rng.choice([0, 1, 2, 5]))))
    return Schedule(name_of(family), rng.randrange(-1, len(TIGHT)), requests, aborts, losses)


def name_of(family: Family) -> str:
    return family.module.__name__.rpartition(".")[2]


class Bench:
    """Engines of one family: a roomy one, and those of ``TIGHT``."""

    def __init__(self, family: Family, folder: Path, make: Callable[..., Engine]) -> None:
        self.family, self.make = family, make
        self.folder: Path = family.module.write(folder, tokenizer=True, **family.checkpoint)
        self.alone: dict[Asked, list[int] | None] = {}

    def engine(self, number: int) -> Engine:
        options = ROOMY | self.family.engine_options | (TIGHT[number] if number >= 0 else {})
        return self.make(self.folder, **options)

    def yardstick(self, asked: Asked) -> list[int] | None:
        """The tokens of a request that is alone; none if it is refused."""
        if asked not in self.alone:
            schedule = Schedule(name_of(self.family), -1, ((0, asked),))
            self.alone[asked] = play(self.engine(-1), schedule)[0]
        return self.alone[asked]

    def mismatches(self, schedule: Schedule) -> list[str]:
        """A line for each request with another text than alone."""
        expected = [self.yardstick(asked) for _, asked in schedule.requests]
        found = play(self.engine(schedule.engine), schedule)
        aborted = {number for _, number in schedule.aborts}
        return [
            f"request {number}: {got}, alone {want}"
            for number, (got, want) in enumerate(zip(found, expected, strict=True))
            if got != want and not (number in aborted and got is None)
        ]


def play(engine: Engine, schedule: Schedule) -> list[list[int] | None]:
    """The tokens of each request; none of one that was refused or aborted."""
    waiting = sorted(range(len(schedule.requests)), key=lambda n: schedule.requests[n][0])
    left = 0
    for step in range(MAX_STEPS):
        while left < len(waiting) and schedule.requests[waiting[left]][0] <= step:
            schedule.requests[waiting[left]][1].add_to(engine, str(waiting[left]))
            left += 1
        for at, number in schedule.aborts:
            if at == step:
                engine.engine.abort_request([str(number)])
        if step in schedule.losses:
            engine.scheduler.reset_prefix_cache(reset_running_requests=True)
        if left == len(waiting) and not engine.engine.has_unfinished_requests():
            break
        engine.step()
    else:
        raise RuntimeError(f"not finished after {MAX_STEPS} steps")
    found: list[list[int] | None] = []
    for number in range(len(schedule.requests)):
        output = engine.finished.get(str(number))
        is_whole = output is not None and output.outputs[0].finish_reason != "abort"
        found.append(list(output.outputs[0].token_ids) if output and is_whole else None)
    return found


def smaller(schedule: Schedule) -> Iterator[Schedule]:
    """The same schedule with one thing less."""
    for number in range(len(schedule.requests)):
        requests = schedule.requests[:number] + schedule.requests[number + 1 :]
        aborts = tuple((step, at - (at > number)) for step, at in schedule.aborts if at != number)
        if requests:
            yield replace(schedule, requests=requests, aborts=aborts)
    for at in range(len(schedule.aborts)):
        yield replace(schedule, aborts=schedule.aborts[:at] + schedule.aborts[at + 1 :])
    for at in range(len(schedule.losses)):
        yield replace(schedule, losses=schedule.losses[:at] + schedule.losses[at + 1 :])
    if schedule.engine >= 0:
        yield replace(schedule, engine=-1)
    for number, (step, asked) in enumerate(schedule.requests):
        for less in asked.smaller():
            requests = list(schedule.requests)
            requests[number] = (step, less)
            yield replace(schedule, requests=tuple(requests))


def shrink(
    schedule: Schedule, is_wrong: Callable[[Schedule], bool], seconds: float = 60
) -> Schedule:
    """Take things away while it is still wrong."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for less in smaller(schedule):
            if time.monotonic() > deadline:
                break
            if is_wrong(less):
                schedule = less
                break
        else:
            break
    return schedule


def check(bench: Bench, schedule: Schedule, seconds: float = 60) -> str | None:
    """A reproducer with what is wrong, if anything is; an engine's exception is."""
    try:
        lines = bench.mismatches(schedule)
    except Exception:
        lines = [traceback.format_exc(limit=-4)]
        return report(schedule, lines)
    if not lines:
        return None
    least = shrink(schedule, lambda less: bool(bench.mismatches(less)), seconds)
    return report(least, bench.mismatches(least) or [*lines, "(not again)"])


def report(schedule: Schedule, lines: list[str]) -> str:
    return "\n".join([*lines, json.dumps(asdict(schedule))])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", type=lambda text: text.split(","))
    parser.add_argument("--replay", type=Path, help="a file with a schedule's JSON")
    parser.add_argument("--folder", type=Path, default=Path("build/schedules"))
    args = parser.parse_args()
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    from tqdm import tqdm

    from tests.fuzz.engines import Engines
    from tests.parity.families import FAMILIES

    families = {name_of(family): family for family in FAMILIES}
    chosen = args.families or list(families)
    replayed = Schedule.from_json(json.loads(args.replay.read_text())) if args.replay else None
    if replayed:
        chosen = [replayed.family]
    args.folder.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch, tqdm(total=args.count, unit="schedule") as bar:
        for turn, name in enumerate(chosen):
            share = args.count * (turn + 1) // len(chosen) - args.count * turn // len(chosen)
            with Engines(Path(scratch)) as engines:
                make = Bench(families[name], Path(scratch) / name, engines)
                schedules = (
                    [replayed]
                    if replayed
                    else [
                        draw(families[name], Random(f"{args.seed}/{name}/{n}"))
                        for n in range(share)
                    ]
                )
                for number, schedule in enumerate(schedules):
                    wrong = check(make, schedule)
                    counts[f"{name}: {'wrong' if wrong else 'right'}"] += 1
                    counts["texts"] += len(schedule.requests)
                    if wrong:
                        file = args.folder / f"{name}-{args.seed}-{number}.txt"
                        file.write_text(wrong + "\n")
                        (args.folder / f"{file.stem}.json").write_text(wrong.splitlines()[-1])
                        tqdm.write(f"{file}\n{wrong}")
                    bar.update()
                counts["preempted"] += engines.num_preempted
                counts["refused"] += sum(one is None for one in make.alone.values())
    for what, count in sorted(counts.items()):
        print(f"{what:32} {count}")
    return int(any("wrong" in what for what in counts))


if __name__ == "__main__":
    sys.exit(main())
