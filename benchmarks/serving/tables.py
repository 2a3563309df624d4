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


def speed(rows: Sequence[Row], title: str) -> Table:
    """How fast, by prompts at a time."""
    table = _new(title)
    table.add_column("setting")
    for concurrency in concurrencies_of(rows):
        table.add_column(f"tokens/s at {concurrency}", justify="right")
        table.add_column("speed-up", justify="right")
    for row in rows:
        cells = []
        for at in row["by_concurrency"].values():
            rate = at["tokens_per_second"]
            cells += [
                f"{rate['median']:.0f} ({rate['min']:.0f}-{rate['max']:.0f})",
                f"{at['speed_up']:.2f}",
            ]
        table.add_row(row["name"], *cells)
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


def all_tables(engines: Sequence[Row], servers: Sequence[Row]) -> list[Table]:
    """In the order of reading."""
    found = [overview(engines), speed(engines, "Engine, without a server")]
    if servers:
        found.append(speed(servers, "Behind vllm serve, by executor"))
    return [*found, tasks(engines)]
