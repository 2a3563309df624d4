"""Run every client against one server, and write the table of ``docs/clients.md``.

    python -m tests.clients.run                 # starts and ends a server, as `make serve` does
    python -m tests.clients.run --url URL       # asks one that runs
    python -m tests.clients.run --only openai   # some of them; the table stays as it is

Each client lives in ``build/clients/NAME``, from the package index; ``.venv`` is not touched.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving.markdown import replace_section
from tests.server.process import end_with_parent, free_port

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "clients"
PAGE = ROOT / "docs" / "clients.md"
CLIENTS = {
    "openai": ("openai==3.57.0",),
    "anthropic": ("anthropic==2.14.0",),
    "inceptionai": ("inceptionai==0.3.0",),
}
"""Requirements by the name of the script, as in ``with_openai.py``."""
START_SECONDS, CLIENT_SECONDS = 240, 300


def prepared(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of a client's environment, which is made where it is not up to date."""
    place = PLACE / name
    stamp, python = place / "stamp", place / "bin" / "python"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run((sys.executable, "-m", "venv", "--clear", str(place)), check=True)
        install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        subprocess.run((str(python), *install, *requirements), check=True)
        stamp.write_text(wanted)
    return python


@contextmanager
def served() -> Iterator[str]:
    """The address of a server that ``make serve`` starts; ``.venv`` is up to date by now."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            ("make", "--no-print-directory", "-o", "setup", "serve", f"PORT={port}"),
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
    try:
        wait_until_healthy(url, server)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def wait_until_healthy(url: str, server: subprocess.Popen[bytes]) -> None:
    """Return once requests are served.

    Raises:
        RuntimeError: it ended or took too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the server is not ready; see {PLACE / 'serve.log'}")


def results_of(name: str, url: str) -> list[dict[str, Any]]:
    """What one client says; a script that breaks off is a result as well."""
    script = Path(__file__).with_name(f"with_{name}.py")
    done = subprocess.run(
        (str(prepared(name, CLIENTS[name])), str(script), url),
        # Nothing of this checkout: the client's own environment, and its packages alone.
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
    )
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no words"])[-1][:160]
        results.append({"client": name, "version": "", "feature": "script", "result": said})
    return results


def table(results: Sequence[dict[str, Any]]) -> str:
    """A row a feature."""
    rows = ["| client | version | feature | result |", "|---|---|---|---|"]
    for each in results:
        result = " ".join(str(each["result"]).split()).replace("|", "/")
        rows.append(f"| {each['client']} | {each['version']} | {each['feature']} | {result} |")
    return "\n".join(rows)


def main() -> int:
    """Run them; the exit status says whether all answers were right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a server that runs; else one is started")
    parser.add_argument("--only", nargs="*", choices=[*CLIENTS], help="these; no table is written")
    arguments = parser.parse_args()
    names = arguments.only or [*CLIENTS]
    if arguments.url:
        results = [each for name in names for each in results_of(name, arguments.url)]
    else:
        with served() as url:
            results = [each for name in names for each in results_of(name, url)]
    print(table(results))
    if not arguments.only:
        replace_section(PAGE, "results", table(results))
    return 0 if results and all(each["result"] == "ok" for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
