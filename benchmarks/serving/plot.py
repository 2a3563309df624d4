"""The comparison as a picture: accuracy against tokens per forward, and speed by concurrency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from .results import Row
from .tables import concurrencies_of

TWIN_COLORS = ("#444444", "#999999")


def _colors(rows: Sequence[Row]) -> list[Any]:
    """Greys for the twin; the further a setting accepts, the brighter."""
    greys = iter(TWIN_COLORS)
    diffusion = [row for row in rows if row["threshold"] is not None]
    shades = iter(
        plt.get_cmap("viridis")(
            [0.1 + 0.75 * i / max(1, len(diffusion) - 1) for i in range(len(diffusion))]
        )
    )
    return [next(greys) if row["threshold"] is None else next(shades) for row in rows]


def _draw_accuracy(axes: Any, rows: Sequence[Row], colors: Sequence[Any]) -> None:
    line = [row for row in rows if row["threshold"] is not None]
    axes.plot(
        [row["tokens_per_forward"] for row in line],
        [100 * row["accuracy"]["mean"] for row in line],
        color="#bbbbbb",
        zorder=1,
    )
    for row, color in zip(rows, colors, strict=True):
        axes.scatter(
            row["tokens_per_forward"],
            100 * row["accuracy"]["mean"],
            color=color,
            marker="s" if row["threshold"] is None else "o",
            s=60,
            zorder=2,
            label=row["name"],
        )
    axes.set(xlabel="tokens per forward", ylabel="exact answers, %", title="Accuracy")
    axes.set_xlim(0, 1.1 * max(row["tokens_per_forward"] for row in rows))
    low, high = axes.get_ylim()
    middle, half = (low + high) / 2, max(5.0, (high - low) / 2 * 1.2)
    axes.set_ylim(max(-2.0, middle - half), min(102.0, middle + half))


def _draw_speed(axes: Any, rows: Sequence[Row], colors: Sequence[Any]) -> None:
    numbers = concurrencies_of(rows)
    width = 0.8 / len(rows)
    for index, (row, color) in enumerate(zip(rows, colors, strict=True)):
        rates = [row["by_concurrency"][c]["tokens_per_second"] for c in numbers]
        places = [place - 0.4 + (index + 0.5) * width for place in range(len(numbers))]
        bars = axes.bar(
            places,
            [rate["median"] for rate in rates],
            width * 0.92,
            color=color,
            label=row["name"],
            yerr=[
                [rate["median"] - rate["min"] for rate in rates],
                [rate["max"] - rate["median"] for rate in rates],
            ],
            error_kw={"linewidth": 0.8},
        )
        axes.bar_label(bars, [f"{rate['median']:.0f}" for rate in rates], fontsize=7, padding=2)
    axes.set_xticks(range(len(numbers)), numbers)
    axes.margins(y=0.1)
    axes.set(xlabel="prompts at a time", ylabel="output tokens per second", title="Speed")


def draw(rows: Sequence[Row], caption: str, path: Path) -> None:
    """Both panels into a PNG file."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 4.8), width_ratios=(2, 3), layout="constrained"
    )
    colors = _colors(rows)
    _draw_accuracy(left, rows, colors)
    _draw_speed(right, rows, colors)
    for axes in (left, right):
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    left.grid(axis="x", alpha=0.3)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(rows), frameon=False)
    figure.supxlabel(caption, fontsize=8, color="#666666")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
