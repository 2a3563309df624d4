"""A short run of the fuzzer against a live server: known faults first, then a few hundred cases.

The long one is `make fuzz MINUTES=`. Cases are the same in every run. While ``known.json`` lists
faults that are open, new cases are not drawn: they would only find those again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import live
from tests.fuzz.draw import cases
from tests.fuzz.drive import known
from tests.fuzz.run import Run

SEED = 20
NUM_CASES = 200
PATIENCE = 30.0
"""Seconds that another client may wait: other tests run beside this one, so only a hang counts."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    model = Path(__file__).resolve().parents[2] / "examples" / "models" / "tiny-diffusion"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WAIT_SECONDS", "HEALTH_SECONDS"):
            patch.setattr(live, name, PATIENCE)
        started = Run(model, tmp_path_factory.mktemp("fuzz"), seed=SEED, is_forked=True, timeout=60)
        try:
            yield started
        finally:
            started.close()


@pytest.mark.skipif(not known(is_open=False), reason="known.json lists no mended fault")
def test_known_faults_stay_mended(run: Run) -> None:
    run.drive(known(is_open=False))
    assert not run.findings, run.summary()


@pytest.mark.skipif(bool(known(is_open=True)), reason="known.json lists open faults")
@pytest.mark.timeout(240)
def test_new_cases(run: Run) -> None:
    run.drive(itertools.islice(cases(SEED), NUM_CASES))
    assert not run.findings, run.summary()
