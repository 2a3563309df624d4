"""Ragged index arithmetic against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from vllm_diffusion.cpu.ragged import copy_segments, segment_indices, steps


@pytest.mark.parametrize("n", [0, 1, 4096, 4097, 10_000, 7])
def test_steps(n: int) -> None:
    assert np.array_equal(steps(n), np.arange(n))


def test_steps_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        steps(3)[0] = 1


def test_segment_indices() -> None:
    starts, lens = np.array([5, 0, 2]), np.array([2, 0, 3])
    assert segment_indices(starts, lens, np.array([0, 2, 2]), 5).tolist() == [5, 6, 2, 3, 4]


@pytest.mark.parametrize("num_segments", [0, 1, 8, 9, 30])
@pytest.mark.parametrize("longest", [1, 5, 200])
def test_copy_segments(rng: np.random.Generator, num_segments: int, longest: int) -> None:
    lens = rng.integers(0, longest + 1, num_segments)
    dst_starts = np.arange(num_segments) * longest
    src_starts = rng.integers(0, 500, num_segments)
    src = rng.integers(0, 1000, 1000)
    expected = np.full(num_segments * longest, -7)
    for to, start, length in zip(dst_starts, src_starts, lens, strict=True):
        expected[to : to + length] = src[start : start + length]
    actual = np.full(num_segments * longest, -7)
    copy_segments(actual, dst_starts, src, src_starts, lens)
    assert np.array_equal(actual, expected)
