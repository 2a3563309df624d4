"""The golden files, one for each module of cases, and how much of the package they cover."""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path

from tests.refusals.record import GOLDEN, Recorder, unmade, written

MODULES = ("decode", "structured", "requests", "startup")
"""The first two without vLLM."""
HEAD = """\
What is tried, the error with the field that it names, and its text.
Written by `python -m tests.refusals`; a unit test compares with it.

"""


def path_of(name: str) -> Path:
    return GOLDEN / f"{name}.txt"


def golden(name: str) -> tuple[str, list[str], int]:
    """The text of one file; places of the package that no case reaches; and of how many."""
    module, recorder = import_module(f"tests.refusals.{name}"), Recorder()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        recorder.hidden.append((str(folder), "FOLDER"))
        text = HEAD + written(module.cases(folder), recorder)
    missing, total = unmade(recorder, *module.FOLDERS)
    return text, missing, total
