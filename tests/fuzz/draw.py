"""Cases from strategies, the same ones for the same seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.strategies import ALL, WEIGHTS

BATCH = 40


def draw(strategy: st.SearchStrategy[Case], count: int, number: int) -> list[Case]:
    """``count`` different cases, or as many as there are."""
    found: dict[str, Case] = {}

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(case: Case) -> None:
        found.setdefault(case.name, case)

    collect()
    return list(found.values())


def cases(number: int, kinds: list[str] | None = None) -> Iterator[Case]:
    """Cases of all kinds, mixed, without end; each once."""
    seen: set[str] = set()
    chosen = kinds or list(ALL)
    weight = sum(WEIGHTS[kind] for kind in chosen)
    for turn in itertools.count():
        batch = []
        for kind in chosen:
            count = max(1, round(BATCH * WEIGHTS[kind] / weight))
            batch += draw(ALL[kind], count, number * 100_003 + turn)
        Random(f"{number}/{turn}").shuffle(batch)
        for case in batch:
            if case.name not in seen:
                seen.add(case.name)
                yield case
