"""Run every client against one server.

    python -m tests.clients                    # starts and ends a server, as `make serve` does
    python -m tests.clients openai litellm     # some of them
    python -m tests.clients --url URL          # asks one that runs
    python -m tests.clients --docs             # all, and the table of docs/clients.md

A server that runs has to serve the bundled model with
``--additional-config '{"likelihood": "mc", "likelihood_samples": 6}'``, which lm-eval's
log-probabilities need.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

from tqdm import tqdm

from benchmarks.serving.markdown import replace_section
from tests.clients.environments import PLACE, ROOT, said_by
from tests.clients.questions import prepare
from tests.clients.registry import CLIENTS, UPSTREAM
from tests.clients.served import served

PAGE = ROOT / "docs" / "clients.md"
OK, NOT_SERVED = "ok", "not served"


class Result(NamedTuple):
    """What a client did with one feature."""

    name: str
    version: str
    feature: str
    result: str

    @property
    def is_expected(self) -> bool:
        """It is right, or it fails for the reason that is written down."""
        is_right = self.result in (OK, NOT_SERVED)
        return is_right != ((self.name, self.feature) in UPSTREAM)

    def row(self) -> str:
        """Of the table."""
        why = UPSTREAM.get((self.name, self.feature))
        text = f"upstream: {why}" if why and self.result != OK else self.result
        cells = (CLIENTS[self.name].title, self.version, self.feature, text)
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "/") for cell in cells) + " |"


def results_of(name: str, url: str) -> list[Result]:
    """What one client says; a script that breaks off is a result as well."""
    try:
        done = said_by(name, url, PLACE / "asked.json")
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return [Result(name, "", "script", f"{type(error).__name__}: {error}")]
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"client"')]
    results = [Result(name, each["version"], each["feature"], each["result"]) for each in told]
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no words"]
        said = next((line for line in reversed(lines) if "Error" in line), lines[-1])
        results.append(Result(name, "", "script", f"ended ({done.returncode}): {said[:300]}"))
    return results


def table(results: Sequence[Result]) -> str:
    """A row a feature."""
    rows = ["| client | version | feature | result |", "|---|---|---|---|"]
    return "\n".join(rows + [result.row() for result in results])


def main() -> int:
    """Run them; the exit status says whether all answers were as expected."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CLIENTS)}")
    parser.add_argument("--url", help="of a server that runs; else one is started")
    parser.add_argument("--docs", action="store_true", help="write the table of docs/clients.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(CLIENTS):
        parser.error(f"no client is called {', '.join(sorted(unknown))}")
    if arguments.docs and arguments.names:
        parser.error("--docs writes the table of all clients; name none")
    prepare(ROOT, PLACE)
    results: list[Result] = []
    with (
        nullcontext(arguments.url) if arguments.url else served(PLACE) as url,
        tqdm(arguments.names or [*CLIENTS], unit="client") as names,
    ):
        for name in names:
            names.set_postfix_str(name)
            results += results_of(name, url)
    print(table(results))
    if arguments.docs:
        replace_section(PAGE, "results", table(results))
    return 0 if results and all(each.is_expected for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
