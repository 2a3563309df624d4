"""The official JSON Schema test suite and drawn schemas: each served and valid, or refused.

    python -m tests.fuzz.suite [--count 1000] [--family sdar] [--write]

Asks a server for a text of every schema, at temperatures 0 and 1.5, and counts what came of each
keyword. ``--write`` puts the row of the family into docs/structured.md, and for the bundled model
the table of keywords. Results: build/fuzz/suite-FAMILY.json. The
exit status is 1 if a text is invalid, a schema ends with an internal error, or the engine ends.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tqdm import tqdm

from tests.fuzz.case import Case
from tests.fuzz.draw import draw
from tests.fuzz.drive import FOLDER, MODEL, ROOT
from tests.fuzz.run import Run
from tests.fuzz.strategies.json_schemas import ASSERTIONS, applicators, schemas
from tests.structured.suite import groups

TEMPERATURES = (0, 1.5)
MAX_TOKENS = 300
SEED = 1
DOCS = ROOT / "docs" / "structured.md"
FAMILIES_HEAD = (
    "| family | schemas | valid | refused | cut | wrong | requests | minutes |\n"
    "|---|---|---|---|---|---|---|---|"
)
KEYWORDS = sorted(ASSERTIONS | applicators(st.just({})))
NO_SCHEMAS_INSIDE = {"enum", "const", "default", "examples", "required", "dependentRequired"}
# From the worst: a schema counts as the worst that came of it.
WORST_FIRST = ("dead", "memory", "hang", "5xx", "invalid", "unfinished", "length", "refused")


def collected(count: int) -> list[tuple[str, Any]]:
    """The suite's schemas, then drawn ones, each with where it is from."""
    found = {json.dumps(one.schema): (one.keyword, one.schema) for one in groups()}
    cases = schemas().map(lambda schema: Case("schema", "", schema))
    turn = 0
    while len(found) < count:
        for case in draw(cases, 200, SEED + turn):
            if len(found) < count:
                found.setdefault(json.dumps(case.body), ("drawn", case.body))
        turn += 1
    return list(found.values())[:count]


def asked(schema: Any, temperature: float) -> Case:
    body = {
        "prompt": "Fill in the form.",
        "max_tokens": MAX_TOKENS,
        "temperature": temperature,
        "seed": SEED,
        "structured_outputs": {"json": schema},
    }
    return Case("schema", "/v1/completions", body, {"json": schema})


def keywords_of(schema: Any) -> set[str]:
    """Keywords anywhere in a schema."""
    found: set[str] = set()
    left = [schema]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += one
        if not isinstance(one, dict):
            continue
        for name, value in one.items():
            if name in KEYWORDS:
                found.add(name)
            if name in NO_SCHEMAS_INSIDE:
                continue
            # Names of properties are not keywords.
            names_below = name in ("properties", "patternProperties", "$defs", "dependentSchemas")
            left += value.values() if names_below and isinstance(value, dict) else [value]
    return found


def word(result: str) -> str:
    """The outcome of a request, as it is counted here."""
    if result.startswith("refused"):
        return "refused"
    return {"right": "valid", "served": "invalid", "cut short": "length"}.get(result, result)


def worst(words: Iterable[str]) -> str:
    found = set(words)
    return next((one for one in WORST_FIRST if one in found), "valid")


def table(outcomes: list[tuple[Any, str]]) -> str:
    """A row a keyword: what came of the schemas that have it."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for schema, outcome in outcomes:
        for name in keywords_of(schema):
            counts[name][outcome] += 1
    bad = [one for one in WORST_FIRST if one not in ("refused", "length")]
    lines = ["| keyword | what happens | schemas | valid | refused | cut | wrong |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, of in sorted(counts.items()):
        served, refused = of["valid"] + of["length"], of["refused"]
        wrong = sum(of[one] for one in bad)
        said = "served" if served and not refused else "refused"
        said = "served, or refused by name" if served and refused else said
        cells = (sum(of.values()), of["valid"], refused, of["length"], wrong)
        lines.append(f"| `{name}` | {said} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def family_row(family: str, words: Counter[str], num_requests: int, seconds: float) -> str:
    good = {name: words[name] for name in ("valid", "refused", "length")}
    total = sum(words.values())
    cells = (total, *good.values(), total - sum(good.values()), num_requests, f"{seconds / 60:.1f}")
    return f"| {family} | " + " | ".join(map(str, cells)) + " |"


def with_row(text: str, row: str) -> str:
    """A table of families with this one's row in its place, or at the end."""
    rows = [line for line in text.splitlines()[2:] if line.startswith("|")]
    name = row.split("|")[1]
    at = next((n for n, line in enumerate(rows) if line.split("|")[1] == name), len(rows))
    rows[at : at + 1] = [row]
    return "\n".join([FAMILIES_HEAD, *rows])


def rewritten(page: str, section: str, change: Callable[[str], str]) -> str:
    """The page, with what stands between a section's markers changed."""
    begin, end = f"<!-- {section}: begin -->\n", f"\n<!-- {section}: end -->"
    head, _, rest = page.partition(begin)
    text, found, tail = rest.partition(end)
    if not found:
        raise SystemExit(f"{DOCS.name} has no {begin.strip()} and {end.strip()}")
    return f"{head}{begin}{change(text)}{end}{tail}"


def checkpoint(family: str) -> Path:
    """The bundled model, or a random checkpoint of a family."""
    if family == "bundled":
        return MODEL
    from importlib import import_module

    module = import_module(f"tests.checkpoints.{family}")
    written: Path = module.write(FOLDER / family, tokenizer=True)
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="schemas, the suite's first")
    parser.add_argument("--family", default="bundled", help="or a module of tests/checkpoints")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--write", action="store_true", help="the table into docs/structured.md")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = collected(args.count)
    run = Run(checkpoint(args.family), FOLDER, seed=SEED, workers=args.workers)
    cases = [[asked(schema, at) for at in TEMPERATURES] for _, schema in wanted]
    began = time.monotonic()
    try:
        with tqdm(total=len(TEMPERATURES) * len(cases), unit="request") as bar:
            run.drive((case for pair in cases for case in pair), bar)
    finally:
        run.close()
    seconds = time.monotonic() - began
    outcomes = [
        (schema, worst(word(run.results.get(case.name, "hang")) for case in pair))
        for (_, schema), pair in zip(wanted, cases, strict=True)
    ]
    record = [
        {"from": source, "outcome": outcome, "schema": schema}
        for (source, schema), (_, outcome) in zip(wanted, outcomes, strict=True)
    ]
    lines = ",\n".join(json.dumps(one) for one in record)
    (FOLDER / f"suite-{args.family}.json").write_text(f"[\n{lines}\n]\n")
    text = table(outcomes)
    print(text)
    for title, chosen in (
        ("suite", [one for one in record if one["from"] != "drawn"]),
        ("drawn", [one for one in record if one["from"] == "drawn"]),
    ):
        print(f"{title}: {dict(Counter(one['outcome'] for one in chosen))}")
    print(run.summary())
    if args.write:
        words = Counter(outcome for _, outcome in outcomes)
        row = family_row(args.family, words, len(TEMPERATURES) * len(cases), seconds)
        page = rewritten(
            DOCS.read_text(encoding="utf-8"), "families", lambda old: with_row(old, row)
        )
        if args.family == "bundled":
            page = rewritten(page, "keywords", lambda _: text)
        DOCS.write_text(page, encoding="utf-8")
    return int(any(outcome not in ("valid", "refused", "length") for _, outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
