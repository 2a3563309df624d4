"""``make scale``: run every cell, say how it went, and write the table into docs/deploy.md.

    python -m tests.scale [--rows TP Ray] [--groups full] [--no-docs]

A cell is a server of its own. One that answers otherwise than it should makes the exit status 1,
and the table is left as it was.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving import machine
from tests.scale import questions as asked
from tests.scale import table
from tests.scale.grid import ROWS, Row
from tests.scale.groups import TITLES, Group
from tests.scale.questions import Found, Questions
from tests.scale.servers import Ask, RefusedError, on_one_host, on_two_hosts, served_by_engine

EQUAL = "equal"
CAPTION = """`make scale`, {date}, commit {commit}: a server a cell, random two-layer checkpoints in
float32 on a CPU. Requests are sent together: {greedy} greedy ones, whose tokens and numbers of
steps are the plain torch reference's; {drawn} with a seed and {structured} structured ones (JSON
Schema and a regular expression, greedy and drawn), which are those of one rank, token for token
and in as many steps. Families: {families}."""


class Run:
    """One run of the table: checkpoints, and answers of one rank, are made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, tuple[Path, Questions, list[Found]]] = {}
        self.stack = contextlib.ExitStack()
        self.cluster: object = None

    def of_one_rank(self, group: Group) -> tuple[Path, Questions, list[Found]]:
        """A group's checkpoint, what it is asked, and what one rank answers."""
        if group.name not in self.known:
            folder = group.write(self.folder / group.name)
            questions = Questions(group, folder)
            with on_one_host(folder, self.folder / f"{group.name}.log", group) as ask:
                found = questions.check(ask(questions.requests()))
            self.known[group.name] = folder, questions, found
        return self.known[group.name]

    def cell(self, row: Row, group: Group) -> str:
        """What stands in the table: equal, or the text of a refusal.

        Raises:
            AssertionError, pytest.fail.Exception: an answer differs.
        """
        folder, questions, expected = self.of_one_rank(group)
        try:
            with self.server(row, group, folder) as ask:
                questions.check(ask(questions.requests()), expected)
                if row.has_two_engines:
                    (metrics,) = ask([{"path": "/metrics"}])
                    served = served_by_engine(metrics["text"])
                    assert min(served["0"], served["1"]) > 0, f"answered by engine: {served}"
        except RefusedError as refusal:
            return str(refusal)
        return EQUAL

    def server(
        self, row: Row, group: Group, folder: Path
    ) -> contextlib.AbstractContextManager[Ask]:
        name = f"{row.title}-{group.name}".replace(" ", "-").replace(",", "")
        if row.has_two_hosts:
            return on_two_hosts(self.two_hosts(), name, folder, group, row)
        return on_one_host(folder, self.folder / f"{name}.log", group, row.options)

    def two_hosts(self) -> object:
        """Made with the first row that needs them."""
        if self.cluster is None:
            from tests.cluster.host import two_hosts
            from tests.cluster.raylets import Cluster

            head, other = self.stack.enter_context(two_hosts())
            self.cluster = Cluster(head, other, self.folder)
        return self.cluster


def cells_of(rows: list[Row], titles: list[str]) -> Iterator[tuple[Row, Group]]:
    yield from (
        (row, group) for row in rows for group in row.groups if not titles or group.title in titles
    )


def run(folder: Path, rows: list[Row], titles: list[str]) -> tuple[dict[tuple[str, str], str], int]:
    """Cells by their titles, and how many are wrong; a line for each while it runs."""
    cells = {(row.title, title): table.NO_FAMILY for row in rows for title in TITLES}
    wanted = list(cells_of(rows, titles))
    num_wrong, this = 0, Run(folder)
    with this.stack:
        for number, (row, group) in enumerate(wanted, 1):
            begin = time.monotonic()
            print(f"[{number}/{len(wanted)}] {row.title}, {group.name} ...", end=" ", flush=True)
            try:
                cells[row.title, group.title] = said = this.cell(row, group)
            except (AssertionError, RuntimeError, pytest.fail.Exception) as error:
                num_wrong, said = num_wrong + 1, f"WRONG\n{error}"
            print(f"{said} ({time.monotonic() - begin:.0f} s)", flush=True)
    return cells, num_wrong


def caption() -> str:
    facts = machine.describe("-m tests.scale", {})
    names = sorted({group.name for row in ROWS for group in row.groups})
    structured = len(asked.FORMS) * len(asked.TEMPERATURES)
    return CAPTION.format(
        date=facts["date"],
        commit=facts["commit"],
        greedy=asked.NUM_GREEDY,
        drawn=asked.NUM_DRAWN,
        structured=structured,
        families=", ".join(names),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs="*", default=[], help="what their titles begin with")
    parser.add_argument("--groups", nargs="*", default=[], choices=TITLES)
    parser.add_argument("--no-docs", action="store_true", help="leave docs/deploy.md as it is")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if row.title.startswith(tuple(arguments.rows) or "")]
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        cells, num_wrong = run(Path(folder), rows, arguments.groups)
    is_whole = len(rows) == len(ROWS) and not arguments.groups
    if num_wrong == 0 and is_whole and not arguments.no_docs:
        table.write(cells, caption())
        print(f"written into {table.PAGE}")
    return 1 if num_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
