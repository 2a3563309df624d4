"""What a step allocates beside its logits: 64 requests of 32 positions, 157,184 tokens.

Counted on tensors without memory, which go the way of an accelerator's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.live_bytes import LiveBytes
from vllm_diffusion.denoise.sample import Draws, candidates
from vllm_diffusion.kernels import tiles
from vllm_diffusion.kernels.dispatch import forced, row_stats
from vllm_diffusion.sampling.ops import neutral_cuts
from vllm_diffusion.structured.class_draws import class_draws
from vllm_diffusion.structured.class_stats import class_stats
from vllm_diffusion.structured.token_classes import TokenClasses
from vllm_diffusion.worker.rehearsal import rehearse

ROWS, VOCAB, MASK, CLASSES = 64 * 32, 157_184, 0, 50
SOME = 3 * tiles.rows_at_a_time(VOCAB) + 1
"""Rows of four parts: more rows are more parts, one after the other."""
SMALL = 8 << 20
"""Results by class: they are no tile's."""


def draws_of(num: int, vocab: int, device: str) -> Draws:
    ones, zeros = torch.ones(num, device=device), torch.zeros(num, dtype=torch.long, device=device)
    row_N = torch.arange(num, device=device)
    return Draws(row_N, ones, zeros, row_N, zeros, neutral_cuts(zeros, vocab))


def peak_of(call: Callable[[], object]) -> int:
    with LiveBytes() as live:
        call()
    return live.peak


def test_bytes_are_counted() -> None:
    def made() -> torch.Tensor:
        kept = torch.zeros(1000, device="meta")
        for _ in range(3):
            kept = kept[:500].float() + 1 + torch.zeros(500, dtype=torch.int64, device="meta")
        return kept

    assert peak_of(made) == 4000 + 2000 + 4000 + 2000


@pytest.mark.parametrize("what", ["class_stats", "class_draws", "uncut", "draw", "row_stats"])
def test_copies_of_rows_stay_below_the_cap(what: str) -> None:
    logits = torch.empty(SOME, VOCAB, dtype=torch.bfloat16, device="meta")
    rows, draws = np.arange(SOME), draws_of(SOME, VOCAB, "meta")
    row_BL = torch.arange(SOME, device="meta")[None]
    classes = [TokenClasses(np.zeros(VOCAB, dtype=np.int32), CLASSES)] * SOME
    uncut = replace(draws, cuts=())
    calls: dict[str, Callable[[], object]] = {
        "class_stats": lambda: class_stats(logits, rows, classes, CLASSES, MASK),
        "class_draws": lambda: class_draws(logits, rows, classes, CLASSES, MASK, draws),
        "uncut": lambda: class_draws(logits, rows, classes, CLASSES, MASK, uncut),
        "draw": lambda: candidates(logits, row_BL, MASK, draws),
        "row_stats": lambda: row_stats(logits, MASK),
    }
    peak = peak_of(calls[what])
    assert tiles.TILE_BYTES // 8 < peak < tiles.TILE_BYTES + SMALL


def test_64_requests_of_32_positions_stay_below_the_cap() -> None:
    logits = torch.empty(ROWS, VOCAB, dtype=torch.bfloat16, device="meta")
    draws = replace(draws_of(ROWS, VOCAB, "meta"), cuts=())
    classes = [TokenClasses(np.zeros(VOCAB, dtype=np.int32), CLASSES)] * ROWS
    peak = peak_of(lambda: class_draws(logits, np.arange(ROWS), classes, CLASSES, MASK, draws))
    assert peak < tiles.TILE_BYTES + SMALL < logits.numel() * logits.itemsize


def test_the_profile_run_takes_what_the_largest_step_takes() -> None:
    logits = torch.empty(SOME, VOCAB, dtype=torch.bfloat16, device="meta")
    draws = draws_of(SOME, VOCAB, "meta")
    row_BL = torch.arange(SOME, device="meta")[None]
    classes = [TokenClasses(np.zeros(VOCAB, dtype=np.int32), CLASSES)] * SOME
    rows = np.arange(SOME)

    def step() -> None:
        class_stats(logits, rows, classes, CLASSES, MASK)
        class_draws(logits, rows, classes, CLASSES, MASK, draws)
        candidates(logits, row_BL, MASK, draws)

    taken = peak_of(lambda: rehearse(logits[:3], SOME, MASK))
    needed = peak_of(step) + logits.numel() * logits.itemsize
    assert needed - SMALL < taken < needed + SMALL


def test_parts_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row at a time gives what all at a time give."""
    logits = torch.randn(7, 300, generator=torch.Generator().manual_seed(0))
    draws = draws_of(7, 300, "cpu")
    classes = [TokenClasses((np.arange(300) % 5).astype(np.int32), 5)] * 7
    row_BL = torch.arange(7)[None]

    def results() -> list[torch.Tensor]:
        answer = candidates(logits, row_BL, MASK, draws)
        return [
            *class_stats(logits, np.arange(7), classes, 5, MASK),
            *class_draws(logits, np.arange(7), classes, 5, MASK, draws),
            answer.token_BL,
            answer.prob_BL,
            answer.entropy_BL,
        ]

    with forced("torch"):
        whole = results()
        monkeypatch.setattr(tiles, "TILE_BYTES", 1)
        parts = results()
    assert [part.shape for part in parts] == [one.shape for one in whole]
    for part, one in zip(parts, whole, strict=True):
        assert torch.allclose(part, one, atol=1e-6, equal_nan=True)
