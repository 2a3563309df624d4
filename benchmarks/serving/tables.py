"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from .results import Row


def _new(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")


def concurrencies_of(rows: Sequence[Row]) -> list[str]:
    """The numbers of prompts at a time, as the rows hold them."""
    return list(rows[0]["by_concurrency"])


def milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def overview(rows: Sequence[Row]) -> Table:
    """What a setting answers and what a forward brings."""
    table = _new("Accuracy and forwards")
    table.caption = "* the model's own threshold; threshold 1 accepts one token a step"
    table.caption_justify = "left"
    table.add_column("setting")
    for title in ("exact", "tokens/forward", "tokens/step", "tokens/answer"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['accuracy']['mean']:.1%}",
            f"{row['tokens_per_forward']:.2f}",
            f"{row['tokens_per_step']:.2f}",
            f"{row['tokens_per_answer']:.0f}",
        )
    return table


def speed(rows: Sequence[Row], concurrency: str) -> Table:
    """How fast, with so many prompts at a time."""
    table = _new(f"{concurrency} at a time")
    table.add_column("setting")
    for title in (
        *("tokens/s", "range", "speed-up", "ms/step"),
        *("first ms", "p95", "streamed/s"),
    ):
        table.add_column(title, justify="right")
    for row in rows:
        at = row["by_concurrency"][concurrency]
        rate = at["tokens_per_second"]
        table.add_row(
            row["name"],
            f"{rate['median']:.0f}",
            f"{rate['min']:.0f}-{rate['max']:.0f}",
            f"{at['speed_up']:.2f}",
            f"{at['ms_per_step']['median']:.2f}",
            milliseconds(at["first_token_ms"]["median"]),
            milliseconds(at["first_token_ms"]["p95"]),
            f"{at['streamed_tokens_per_second']:.0f}",
        )
    return table


def tasks(rows: Sequence[Row]) -> Table:
    """Exact answers by task."""
    table = _new("Exact answers by task, %")
    table.add_column("task")
    for row in rows:
        table.add_column(row["name"], justify="right")
    for task in rows[0]["accuracy"]["by_task"]:
        table.add_row(task, *(f"{100 * row['accuracy']['by_task'][task]:.0f}" for row in rows))
    return table


def all_tables(rows: Sequence[Row]) -> list[Table]:
    """In the order of reading."""
    return [overview(rows), *(speed(rows, c) for c in concurrencies_of(rows)), tasks(rows)]
