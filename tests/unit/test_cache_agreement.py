"""The benchmark of the approximate caches: what its numbers are made of."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

pytest.importorskip("rich", reason="the benchmarks print with rich")

from benchmarks.cache_agreement import HEADER, Run, cells, compare, section
from vllm_diffusion.counters import RequestCounts
from vllm_diffusion.metrics import count

FACTS = {
    "command": "python benchmarks/cache_agreement.py",
    "date": "today",
    "commit": "abc",
    "cpu": "a processor",
    "num_cores": 1,
    "load_at_start": 0.0,
    "environment": {},
    "versions": {},
}


def run(
    outputs: list[list[int]], widths: list[int], num_rows: int, approximate: tuple[int, ...] = ()
) -> Run:
    """Every output has the same forwards."""
    emitted = [0] * (len(widths) - 1) + [4]
    counts = RequestCounts(
        canvas_length=4, widths=widths, emitted=emitted, approximate=[*approximate]
    )
    return Run(outputs=outputs, metrics=[count(counts)] * len(outputs), num_rows=num_rows)


def test_agreement() -> None:
    exact = run([[1, 2, 3, 4], [5, 6, 7, 8]], [4, 4], num_rows=96)
    approximate = run([[1, 2, 3, 4], [5, 0, 7, 0]], [4, 4], num_rows=32, approximate=(1,))
    assert compare(exact, exact) == {
        "tokens_equal": 1.0,
        "outputs_equal": 1.0,
        "forwards": 2.0,
        "approximate": 0.0,
        "rows_per_forward": 24.0,
        "rows_per_output": 48.0,
    }
    row = compare(approximate, exact)
    assert row["tokens_equal"] == 6 / 8
    assert row["outputs_equal"] == 1 / 2
    assert row["approximate"] == 1 / 2
    assert row["rows_per_forward"] == 8.0


@pytest.mark.parametrize("model", [None, Path("some/model")])
def test_the_section_says_what_it_measured(model: Path | None) -> None:
    exact = run([[1]], [1], num_rows=9)
    rows = {"exact": compare(exact, exact)}
    arguments = Namespace(
        model=model,
        prompts=None,
        num_prompts=1,
        prompt_tokens=8,
        output_tokens=1,
        block_length=1,
        dtype="float32",
    )
    text = section(rows, FACTS, arguments)
    assert f"| {' | '.join(HEADER)} |" in text
    assert f"| {' | '.join(cells(rows)[0])} |" in text
    assert ("a lower bound" in text) == (model is None)
    assert ("model, float32" in text) == (model is not None)
