"""The bundled pair, asked for the same extraction in every form.

    python -m benchmarks.forms --docs docs

Serves one model after the other with the same flags and asks through the OpenAI client: without a
constraint, with a JSON schema, a regular expression, a grammar, and through function calls.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..serving import machine, markdown
from ..serving.server import Server, serve
from .asking import Round, ask_all
from .questions import FORMS, SETS, Question, load

MODELS = {
    "diffusion": Path("examples/models/tiny-diffusion"),
    "twin": Path("examples/models/tiny-ar"),
}
FLAGS = (
    *("--dtype", "bfloat16", "--max-model-len", "1024", "--max-num-seqs", "16"),
    *("--kv-cache-memory-bytes", str(256 << 20), "--enable-per-request-metrics"),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
)
ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "VLLM_USE_AOT_COMPILE": "0"}
Key = tuple[str, str, str, int]
"""Model, set, form, concurrency."""


def measure(
    name: str,
    server: Server,
    sets: Mapping[str, Sequence[Question]],
    concurrencies: Sequence[int],
    progress: Progress,
) -> dict[Key, Round]:
    """Every set in every form."""
    rounds: dict[Key, Round] = {}
    num_asked = sum(map(len, sets.values())) * len(FORMS) * len(concurrencies)
    task = progress.add_task(name, total=num_asked)
    for concurrency, (title, questions), form in itertools.product(
        concurrencies, sets.items(), FORMS
    ):
        progress.update(task, description=f"{name}: {form}, {concurrency} at a time")
        rounds[name, title, form, concurrency] = asyncio.run(
            ask_all(
                server.url,
                server.name,
                questions,
                form,
                concurrency,
                lambda: progress.advance(task),
            )
        )
    return rounds


def _table(rounds: Mapping[Key, Round], title: str, concurrencies: Sequence[int]) -> str:
    first = concurrencies[0]
    header = ["form", "exact", "the twin's", "valid", "the twin's", "tokens/forward"]
    header += [f"tokens/s at {c}" for c in concurrencies]
    header += [f"the twin's at {c}" for c in concurrencies]
    rows = []
    for form in FORMS:
        ours, twins = (rounds[name, title, form, first] for name in MODELS)
        row = [form]
        for what in ("is_right", "is_valid"):
            row += [f"{ours.share(what):.1%}", f"{twins.share(what):.1%}"]
        row.append(f"{ours.tokens_per_forward:.2f}")
        row += [
            f"{rounds[name, title, form, c].tokens_per_second:.0f}"
            for name in MODELS
            for c in concurrencies
        ]
        rows.append(row)
    return markdown.table(header, rows)


def section(
    rounds: Mapping[Key, Round],
    sets: Mapping[str, Sequence[Question]],
    concurrencies: Sequence[int],
    facts: Mapping[str, Any],
) -> str:
    """The part of benchmarks.md."""
    tables = "\n\n".join(
        f"### {len(questions)} prompts, {title}\n\n{_table(rounds, title, concurrencies)}"
        for title, questions in sets.items()
    )
    return f"""## One extraction in nine forms

{markdown.provenance(facts)}

The bundled pair, one after the other behind `vllm serve` with the same flags: `{" ".join(FLAGS)}`.
Every prompt is a sentence of facts and the names of the fields wanted; the answer is asked for as
the form says. A function is offered with the same fields, under a name made up for the prompt.

* A schema is new in each prompt, so compilation is part of the time.
* exact: the parsed answer is the right one; valid: it parses and fits the schema.
* The autoregressive twin makes one token a forward.

{tables}
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--num-prompts", type=int, default=60, help="of the training tasks' fields")
    parser.add_argument("--num-unseen", type=int, default=200, help="with fields never seen")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="write FOLDER/benchmarks.md")
    arguments = parser.parse_args()
    console = Console()
    facts = machine.describe("-m benchmarks.forms", ENVIRONMENT)
    if warning := machine.busy_warning(facts):
        console.print(f"[yellow]Warning: {warning}.")
    numbers = (arguments.num_prompts, arguments.num_unseen)
    sets = {
        title: load(task, number)
        for (title, task), number in zip(SETS.items(), numbers, strict=True)
    }
    rounds: dict[Key, Round] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for name, model in MODELS.items():
            with serve(
                model,
                flags=FLAGS,
                environment=ENVIRONMENT,
                port=0,
                log_folder=Path("build/forms"),
                start_seconds=300,
            ) as server:
                rounds |= measure(name, server, sets, arguments.concurrency, progress)
    text = section(rounds, sets, arguments.concurrency, facts)
    console.print(text, markup=False, highlight=False)
    if arguments.docs:
        markdown.replace_section(arguments.docs / "benchmarks.md", "forms", text)


if __name__ == "__main__":
    main()
