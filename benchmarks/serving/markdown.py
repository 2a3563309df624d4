"""Sections of docs/benchmarks.md, each made by one benchmark and replaced by its next run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .results import Row
from .tables import concurrencies_of, milliseconds

HEADER = "# Benchmarks\n\nTables here are written by the commands above them.\n"


def replace_section(path: Path, name: str, body: str) -> None:
    """Put ``body`` between the marks of section ``name``; other text of the file stays."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{body.strip()}\n{end}"
    text = path.read_text(encoding="utf-8") if path.is_file() else HEADER
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: section, text)
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; all columns but the first are numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def provenance(facts: Mapping[str, Any]) -> str:
    """How and where the numbers were made."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    variables = " ".join(f"{name}={value}" for name, value in facts["environment"].items())
    return (
        f"    {facts['command']}\n\n"
        f"{facts['date']}, commit {facts['commit']}; {facts['cpu']}, {facts['num_cores']} cores, "
        f"load {facts['load_at_start']} at the start; `{variables}`; {versions}."
    )


def _main_table(rows: Sequence[Row]) -> str:
    numbers = concurrencies_of(rows)
    header = ["setting", "exact", "tokens/forward", "ms/step"]
    header += [f"tokens/s at {c}" for c in numbers]
    header += [f"speed-up at {c}" for c in numbers]
    cells = []
    for row in rows:
        at = [row["by_concurrency"][c] for c in numbers]
        cells.append(
            [
                row["name"],
                f"{row['accuracy']['mean']:.1%}",
                f"{row['tokens_per_forward']:.2f}",
                f"{at[0]['ms_per_step']['median']:.2f}",
                *(_with_range(a["tokens_per_second"]) for a in at),
                *(f"{a['speed_up']:.2f}" for a in at),
            ]
        )
    return table(header, cells)


def _server_table(rows: Sequence[Row]) -> str:
    numbers = concurrencies_of(rows)
    header = ["model, executor", *(f"tokens/s at {c}" for c in numbers)]
    header += [f"speed-up at {c}" for c in numbers]
    cells = []
    for row in rows:
        at = [row["by_concurrency"][c] for c in numbers]
        rates = [_with_range(a["tokens_per_second"]) for a in at]
        cells.append([row["name"], *rates, *(f"{a['speed_up']:.2f}" for a in at)])
    return table(header, cells)


def _with_range(rate: Mapping[str, Any]) -> str:
    return f"{rate['median']:.0f} ({rate['min']:.0f}-{rate['max']:.0f})"


def _first_token_table(rows: Sequence[Row]) -> str:
    numbers = concurrencies_of(rows)
    header = ["model, executor"]
    for c in numbers:
        header += [f"median at {c}", f"p95 at {c}"]
    cells = []
    for row in rows:
        line = [row["name"]]
        for c in numbers:
            first = row["by_concurrency"][c]["first_token_ms"]
            line += [milliseconds(first["median"]), milliseconds(first["p95"])]
        cells.append(line)
    return table(header, cells)


def _task_table(rows: Sequence[Row]) -> str:
    names = list(rows[0]["accuracy"]["by_task"])
    return table(
        ["task", *(row["name"] for row in rows)],
        [
            [name, *(f"{100 * row['accuracy']['by_task'][name]:.0f}" for row in rows)]
            for name in names
        ],
    )


def _servers(result: Mapping[str, Any]) -> str:
    rows = result["servers"]
    if not rows:
        return ""
    flags = " ".join(result["server_flags"])
    return f"""
Behind `vllm serve` with `{flags}`, the model's own threshold, by `--distributed-executor-backend`
(`mp` is vLLM's default; `uni` runs the worker inside the engine core). All servers are up, and the
others stopped (SIGSTOP) while one is asked. Speed-up: over the twin's faster executor.

{_server_table(rows)}

Time to the first token there, ms, streamed; a block's tokens come together:

{_first_token_table(rows)}
"""


def twin_section(result: Mapping[str, Any], plot: str) -> str:
    """The section that compares the twins."""
    rows, prompts = result["engines"], result["prompts"]
    at = concurrencies_of(rows)
    options = ", ".join(f"{name}={value}" for name, value in result["engine_options"].items())
    return f"""## Diffusion against its autoregressive twin

{provenance(result["machine"])}

Two models of one shape, tokenizer and training set (`benchmarks/tiny`), greedy. No prefix is
cached, so every prompt is computed. First the engines alone, in one process each and without a
server: `LLM({options})`. All are up and take turns.

* Rows: the diffusion model by acceptance threshold (1 accepts one token a step, * is the model's
  own); the autoregressive twin, plain and with vLLM's n-gram speculation.
* exact: right answers to {prompts["num_accuracy"]} test prompts, {max(map(int, at))} at a time.
* tokens/forward: output tokens over all forwards, the prompt's and every commit included.
* tokens/s: {prompts["num_speed"]} of these prompts, {", ".join(at)} at a time; median of
  {prompts["repeats"]} passes (range).
* speed-up: over the twin's faster row at the same concurrency.
* ms/step: a request's time in the engine over its forwards, {at[0]} at a time.

{_main_table(rows)}
{_servers(result)}
Exact answers by task, %:

{_task_table(rows)}

![Accuracy against tokens per forward, and tokens per second by concurrency]({plot})
"""
