"""How forwards are counted."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_diffusion.counters import RequestCounts
from vllm_diffusion.metrics import DecodeMetrics, count, decode_metrics


def counts(widths: list[int], emitted: list[int], *approximate: int) -> RequestCounts:
    return RequestCounts(
        canvas_length=8, widths=widths, emitted=emitted, approximate=[*approximate]
    )


@pytest.mark.parametrize(
    ("widths", "emitted", "expected"),
    [
        ([], [], (0, 0, 0, {})),
        ([0, 0], [0, 0], (0, 0, 2, {})),  # prompt chunks alone
        ([4], [4], (4, 1, 0, {1: 1})),
        ([3, 3, 4], [0, 3, 4], (7, 3, 0, {1: 1, 2: 1})),
        ([0, 2, 2, 2, 4, 4], [0, 0, 0, 2, 0, 1], (3, 5, 1, {2: 1, 3: 1})),
        ([4, 4], [0, 0], (0, 2, 0, {})),  # aborted inside its first block
    ],
)
def test_count(
    widths: list[int], emitted: list[int], expected: tuple[int, int, int, dict[int, int]]
) -> None:
    metrics = count(counts(widths, emitted))
    assert (
        metrics.num_tokens,
        metrics.num_denoising_steps,
        metrics.num_prefill_forwards,
        metrics.blocks_by_steps,
    ) == expected


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=40))
def test_the_counts_add_up(entries: list[tuple[int, int]]) -> None:
    widths = [width for width, _ in entries]
    emitted = [min(width, tokens) for width, tokens in entries]
    metrics = count(counts(widths, emitted))
    assert metrics.num_forwards == len(entries)
    assert metrics.num_forwards == metrics.num_denoising_steps + metrics.num_prefill_forwards
    assert sum(metrics.blocks_by_steps.values()) == sum(n > 0 for n in emitted)
    steps_of_blocks = sum(steps * num for steps, num in metrics.blocks_by_steps.items())
    assert steps_of_blocks <= metrics.num_denoising_steps
    assert metrics.tokens_per_forward * max(len(entries), 1) == pytest.approx(sum(emitted))


def test_ratios() -> None:
    metrics = count(counts([0, 8, 8], [0, 0, 6]))
    assert metrics.tokens_per_forward == 2.0
    assert metrics.tokens_per_step == 3.0
    empty = count(counts([], []))
    assert (empty.tokens_per_forward, empty.tokens_per_step) == (0.0, 0.0)


def test_the_dict_is_json() -> None:
    assert json.loads(json.dumps(count(counts([0, 4, 4], [0, 0, 4])).to_dict())) == {
        "num_tokens": 4,
        "num_denoising_steps": 2,
        "num_prefill_forwards": 1,
        "blocks_by_steps": {"2": 1},
        "num_approximate_forwards": 0,
        "num_forwards": 3,
        "tokens_per_forward": 4 / 3,
        "warning": None,
    }


def test_approximate_forwards_come_with_a_warning() -> None:
    metrics = count(counts([4, 4, 4, 2, 0], [0, 0, 4, 2, 0], 1, 2))
    assert metrics.num_approximate_forwards == 2
    assert metrics.num_denoising_steps == 4
    assert metrics.blocks_by_steps == {1: 1, 3: 1}
    assert metrics.warning is not None and metrics.warning.startswith("2 of 5 forwards")


def test_metrics_of_an_output() -> None:
    record = SimpleNamespace(**counts([0, 4], [0, 4]).encoded())
    metrics = decode_metrics(SimpleNamespace(spec_decode_metrics=record))
    assert metrics == DecodeMetrics(
        num_tokens=4, num_denoising_steps=1, num_prefill_forwards=1, blocks_by_steps={1: 1}
    )
    with pytest.raises(ValueError, match=r"no decode metrics.*unfinished"):
        decode_metrics(SimpleNamespace(spec_decode_metrics=None))
    vllms = SimpleNamespace(**counts([0, 4], [0, 4]).encoded() | {"histogram": [0, 1]})
    with pytest.raises(ValueError, match="not one of vllm_diffusion's"):
        decode_metrics(SimpleNamespace(spec_decode_metrics=vllms))
