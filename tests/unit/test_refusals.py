"""What users read when something is refused does not change by accident.

A text that changes on purpose: ``python -m tests.refusals`` writes the files anew.
"""

from __future__ import annotations

import difflib

import pytest

pytest.importorskip("llguidance")

from tests.refusals.golden import MODULES, golden, path_of
from tests.refusals.record import GOLDEN, Case, Recorder

LEAST_COVERED = 0.85
"""Of the places that raise at a user, in the files that a module's cases are about."""
WITHOUT_VLLM = ("decode", "structured")


@pytest.mark.parametrize("name", MODULES)
def test_no_text_has_changed(name: str) -> None:
    if name not in WITHOUT_VLLM:
        pytest.importorskip("vllm", reason="requests and start-up are vLLM's")
    text, missing, total = golden(name)
    known, now = path_of(name).read_text(encoding="utf-8").splitlines(), text.splitlines()
    assert not list(difflib.unified_diff(known, now, "frozen", "now", lineterm="", n=1))
    assert len(missing) <= (1 - LEAST_COVERED) * total, missing


def test_every_golden_file_is_compared_with() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(MODULES)


def test_what_is_not_refused_is_no_case() -> None:
    with pytest.raises(AssertionError, match="nothing is refused: a case"):
        Recorder().said(Case("a case", lambda: None))
