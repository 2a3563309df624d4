"""Cells as the table of docs/deploy.md, between marks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.serving.markdown import replace_section
from tests.scale.grid import ROWS
from tests.scale.groups import TITLES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
SECTION = "scale"
NO_FAMILY = "no such family"
Cells = Mapping[tuple[str, str], str]
"""By the titles of row and mask group."""


def as_table(cells: Cells) -> str:
    """One row a way to spread a server; every cell says something."""
    lines = [f"| | {' | '.join(TITLES)} |", "|---" * (len(TITLES) + 1) + "|"]
    refusals: dict[str, int] = {}
    for row in ROWS:
        said = [cells[row.title, title] for title in TITLES]
        shown = [_shown(cell, refusals) for cell in said]
        lines.append(f"| {row.title} | {' | '.join(shown)} |")
    notes = [f"{number}. {text}" for text, number in refusals.items()]
    return "\n".join([*lines, "", *notes])


def _shown(cell: str, refusals: dict[str, int]) -> str:
    """A refusal's text is long: it stands below the table, with a number."""
    if not cell.startswith("--"):
        return cell
    return f"refused by name ({refusals.setdefault(cell, len(refusals) + 1)})"


def write(cells: Cells, caption: str, path: Path = PAGE) -> None:
    """Replace the section; other text of the page stays."""
    replace_section(path, SECTION, f"{caption}\n\n{as_table(cells)}")
