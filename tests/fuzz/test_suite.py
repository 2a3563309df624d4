"""The page that the suite writes: a row a family, and a section between its markers."""

from collections import Counter

import pytest

from tests.fuzz.suite import FAMILIES_HEAD, family_row, rewritten, with_row


def test_a_row_counts_whatever_is_wrong() -> None:
    words = Counter(valid=5, refused=3, length=1, invalid=1, dead=1)
    row = family_row("sdar", words, 22, 90)
    assert row == "| sdar | 11 | 5 | 3 | 1 | 2 | 22 | 1.5 |"


def test_a_familys_row_is_replaced_in_its_place() -> None:
    text = "\n".join([FAMILIES_HEAD, "| a | 1 |", "| ab | 2 |"])
    assert with_row(text, "| a | 3 |").splitlines()[2:] == ["| a | 3 |", "| ab | 2 |"]
    assert with_row(text, "| c | 4 |").splitlines()[2:] == ["| a | 1 |", "| ab | 2 |", "| c | 4 |"]


def test_what_stands_around_a_section_stays() -> None:
    page = "x\n<!-- s: begin -->\nold\n<!-- s: end -->\ny\n"
    assert rewritten(page, "s", str.upper) == page.replace("old", "OLD")


def test_a_page_without_the_section_is_refused() -> None:
    with pytest.raises(SystemExit, match="s: begin"):
        rewritten("x", "s", str.upper)
