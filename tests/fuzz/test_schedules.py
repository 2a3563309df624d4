"""A few random schedules of every family: each text is the one that its request has alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.engines import Engines
from tests.fuzz.requests import Asked
from tests.fuzz.schedules import Bench, Schedule, check, draw, name_of, shrink
from tests.parity.families import FAMILIES, Family

NUM_SCHEDULES = 3


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with Engines(tmp_path_factory.mktemp("schedules")) as opened:
        yield opened


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_company_changes_no_text(family: Family, engines: Engines, tmp_path: Path) -> None:
    bench = Bench(family, tmp_path / "model", engines)
    for number in range(NUM_SCHEDULES):
        wrong = check(bench, draw(family, Random(f"ci/{name_of(family)}/{number}")))
        assert not wrong, wrong


def test_a_mismatch_is_made_smaller() -> None:
    """Down to the two requests and the one loss that it takes."""
    asked = [Asked(length, 0, 16) for length in (5, 6, 7, 8)]
    schedule = Schedule("sdar", 1, tuple(enumerate(asked)), ((9, 3),), (3, 5, 7))

    def is_wrong(one: Schedule) -> bool:
        lengths = {request.prompt for _, request in one.requests}
        return len(one.requests) >= 2 and 5 in one.losses and lengths == {0}

    least = shrink(schedule, is_wrong)
    assert (len(least.requests), least.aborts, least.losses, least.engine) == (2, (), (5,), -1)
    assert {request.max_tokens for _, request in least.requests} <= {2, 4}
