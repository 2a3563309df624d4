"""The table of ``make scale`` is whole: every row that is run, every mask group, no empty cell."""

from __future__ import annotations

from itertools import takewhile

import pytest

pytest.importorskip("vllm")  # the families' bench asks for it

from tests.scale import table
from tests.scale.grid import ROWS
from tests.scale.groups import TITLES


def test_every_cell_of_the_docs_says_something() -> None:
    text = table.PAGE.read_text(encoding="utf-8")
    _, _, section = text.partition(f"<!-- {table.SECTION}: begin -->")
    lines = section[section.index("\n|") + 1 :].splitlines()
    rows = [line.strip("|").split("|") for line in takewhile(lambda x: x.startswith("|"), lines)]
    assert [cell.strip() for cell in rows[0][1:]] == list(TITLES)
    assert [cells[0].strip() for cells in rows[2:]] == [row.title for row in ROWS]
    said = {cell.strip() for cells in rows[2:] for cell in cells[1:]}
    assert "" not in said
    assert {cell.partition(" (")[0] for cell in said} == {
        "equal",
        "refused by name",
        table.NO_FAMILY,
    }


def test_refusals_are_noted_once_and_wrong_cells_are_not_written() -> None:
    refusal = "--enable-x is refused for diffusion models: so it is; leave it out"
    cells = {(row.title, title): "equal" for row in ROWS for title in TITLES}
    cells |= {(ROWS[0].title, title): refusal for title in TITLES}
    shown = table.as_table(cells)
    assert shown.count("refused by name (1)") == len(TITLES)
    assert shown.endswith(f"\n1. {refusal}")
    del cells[ROWS[1].title, TITLES[0]]
    with pytest.raises(KeyError):
        table.as_table(cells)
