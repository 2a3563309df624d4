"""Send random requests to a live server for a while, and say what was wrong.

    python -m tests.fuzz.drive --minutes 10 [--seed N] [--kinds schema,regex] [--url URL]

First the known faults (known.json), then new cases. Findings are kept as reproducers in
build/fuzz; ``python -m tests.fuzz.drive --replay build/fuzz/*.json`` sends them again. The exit
status is 1 if there is any finding.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from tests.fuzz.case import Case
from tests.fuzz.draw import cases
from tests.fuzz.run import Run
from tests.fuzz.strategies import ALL

ROOT = Path(__file__).resolve().parents[2]
KNOWN = Path(__file__).with_name("known.json")
FOLDER = ROOT / "build" / "fuzz"
MODEL = ROOT / "examples" / "models" / "tiny-diffusion"


def known(*, is_open: bool | None = None) -> list[Case]:
    """Cases that were faults once; ``is_open`` picks those that still are, or are not."""
    entries = json.loads(KNOWN.read_text(encoding="utf-8"))
    picked = [one for one in entries if is_open in (None, bool(one.get("open")))]
    return [Case.from_json(one["case"]) for one in picked]


def remember(files: Iterable[str]) -> None:
    """Add reproducers to the known faults, as open ones; what is right is to be written by hand."""
    entries = json.loads(KNOWN.read_text(encoding="utf-8"))
    names = {Case.from_json(one["case"]).name for one in entries}
    for path in map(Path, files):
        found = json.loads(path.read_text())
        case = Case.from_json(found["case"])
        if case.name not in names:
            right = f"no {found['fault']}: {found['detail'][:120]}"
            entry = {"name": path.stem, "right": right, "open": True, "case": case.to_json()}
            entries.append(entry)
            names.add(case.name)
    lines = ",\n".join(json.dumps(one) for one in entries)
    KNOWN.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def replayed(files: Iterable[str]) -> list[Case]:
    return [Case.from_json(json.loads(Path(name).read_text())["case"]) for name in files]


def until(deadline: float, stream: Iterable[Case]) -> Iterator[Case]:
    """Cases for as long as there is time."""
    return itertools.takewhile(lambda _: time.monotonic() < deadline, stream)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--count", type=int, help="so many cases in the place of minutes")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(ALL))
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--skip-known", action="store_true")
    parser.add_argument("--replay", nargs="+", metavar="FILE")
    parser.add_argument("--remember", nargs="+", metavar="FILE", help="add to known.json, and end")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    args = parser.parse_args()

    if args.remember:
        remember(args.remember)
        return 0
    args.folder.mkdir(parents=True, exist_ok=True)
    run = Run(args.model, args.folder, seed=args.seed, workers=args.workers)
    try:
        with tqdm(unit="case", smoothing=0.05) as bar:
            if args.replay:
                run.drive(replayed(args.replay), bar)
            else:
                if not args.skip_known:
                    run.drive(known(), bar)
                stream: Iterable[Case] = cases(args.seed, args.kinds)
                if args.count:
                    stream = itertools.islice(stream, args.count)
                else:
                    stream = until(time.monotonic() + 60 * args.minutes, stream)
                run.drive(stream, bar)
                run.make_smaller()
    except KeyboardInterrupt:
        pass
    finally:
        run.close()
    print(run.summary())
    return int(bool(run.findings))


if __name__ == "__main__":
    sys.exit(main())
