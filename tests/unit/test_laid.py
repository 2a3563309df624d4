"""Tokens that stand in a canvas before it is denoised.

Shape suffixes: B requests, L canvas length, N rows of logits, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.unit.denoise_inputs import candidates_of, params_of
from vllm_diffusion.denoise.edit import EditParams
from vllm_diffusion.denoise.laid import HELD, Laid, lay, own_prob
from vllm_diffusion.denoise.sample import candidates
from vllm_diffusion.denoise.step import StepResult, denoise

MASK = 3
T, F = True, False


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def rule(**changes: Any) -> Laid:
    """One canvas of four: held, drafted, drafted, open."""
    made = Laid(
        draft_BL=torch.tensor([[F, T, T, F]]),
        pinned_BL=torch.tensor([[T, F, F, F]]),
        is_laid_B=torch.tensor([T]),
        prob_BL=torch.tensor([[0.0, 0.5, 0.4, 0.0]]),
        threshold_B=torch.tensor([0.5]),
        num_rows_B=ints(4),
        step_B=ints(2),
        mask_id=MASK,
    )
    return replace(made, **changes)


def step(laid: Laid, *more: Any, masked: Any = (F, T, T, T), **params: Any) -> StepResult:
    said = {"threshold": [0.9], "max_steps": [4], "block_length": [4]} | params
    return denoise(
        ints(10, 11, 12, MASK)[None],
        torch.tensor([masked]),
        ints(2),
        candidates_of([[20, 21, 22, 23]], [[1.0, 0.99, 0.99, 0.2]]),
        params_of(["confidence"], **said),
        (*more, laid),
    )


def test_a_seed_becomes_a_canvas() -> None:
    seed_BL = torch.stack((ints(7 + HELD, 8, -1, 9 + HELD, 5), ints(8, 8 + HELD, -1, -1, -1)))
    plain = lay(seed_BL, ints(4, 5), MASK, has_seed=False)
    assert plain.tokens_BL.tolist() == [[7, 8, MASK, 9, MASK], [8, 8, MASK, MASK, MASK]]
    assert plain.draft_BL.tolist() == [[F, T, F, F, F], [T, F, F, F, F]]
    assert plain.pinned_BL.tolist() == [[T, F, F, T, F], [F, T, F, F, F]]
    seeded = lay(seed_BL, ints(4, 5), MASK, has_seed=True)
    assert seeded.tokens_BL[1].tolist() == [MASK, 8, MASK, MASK, MASK]
    assert seeded.pinned_BL[0].tolist() == [T, F, F, T, F]


def test_the_own_probability_is_the_softmax() -> None:
    logits_NV = torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
    row_BL, tokens_BL = torch.arange(6).view(2, 3), torch.tensor([[4, 5, 6], [7, 8, 49]])
    answer = candidates(logits_NV, row_BL, MASK)
    logits_NV[:, MASK] = -torch.inf
    want_BL = logits_NV.softmax(-1)[row_BL, tokens_BL]
    torch.testing.assert_close(own_prob(logits_NV, row_BL, tokens_BL, answer), want_BL)


def test_a_draft_is_kept_at_the_threshold_and_masked_below_it() -> None:
    result = step(rule())
    assert result.tokens_BL.tolist() == [[10, 11, MASK, 23]]
    assert result.masked_BL.tolist() == [[F, F, T, F]]
    assert result.step_B.tolist() == [3]
    assert result.num_emitted_B.tolist() == [0]


def test_what_is_forbidden_is_not_kept_whatever_the_threshold() -> None:
    prob_BL = torch.tensor([[0.0, 0.0, 0.4, 0.0]])
    result = step(rule(threshold_B=torch.tensor([0.0]), prob_BL=prob_BL))
    assert result.masked_BL.tolist() == [[F, T, F, F]]


def test_the_schedule_waits_where_nothing_is_open() -> None:
    draft_BL = torch.tensor([[F, T, T, T]])
    result = step(rule(draft_BL=draft_BL))
    assert result.step_B.tolist() == [2]
    assert result.masked_BL.tolist() == [[F, F, T, T]]


def test_a_draft_without_a_row_waits() -> None:
    """It keeps its token, and is neither settled nor chosen from."""
    result = step(rule(num_rows_B=ints(1)))
    assert result.tokens_BL[0, :3].tolist() == [10, 11, 12]
    assert result.masked_BL[0, 1:3].tolist() == [T, T]


@pytest.mark.parametrize(("num_rows", "emitted"), [(4, 4), (1, 0)])
def test_a_held_block_is_emitted_by_its_own_forward(num_rows: int, emitted: int) -> None:
    held = torch.ones(1, 4, dtype=torch.bool)
    laid = rule(draft_BL=~held, pinned_BL=held, num_rows_B=ints(num_rows))
    assert step(laid, masked=(F, F, F, F)).num_emitted_B.tolist() == [emitted]


def test_what_is_held_is_not_edited() -> None:
    edits = EditParams(torch.tensor([0.5]), ints(9), ints(0))
    settled = {"masked": (F, F, F, F)}
    none_BL = torch.zeros(1, 4, dtype=torch.bool)
    assert step(rule(draft_BL=none_BL), edits, **settled).tokens_BL.tolist() == [[10, 21, 22, MASK]]
    free = rule(draft_BL=none_BL, pinned_BL=none_BL)
    assert step(free, edits, **settled).tokens_BL.tolist() == [[20, 21, 22, MASK]]


def test_slots_hold_what_their_own_request_lays(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm", reason="arrays by slot are vLLM's")
    from vllm.v1.worker.cpu.buffer_utils import UvaBuffer
    from vllm.v1.worker.gpu import buffer_utils

    monkeypatch.setattr(buffer_utils, "UvaBuffer", UvaBuffer)
    from vllm_diffusion.batch.laid import Asked, LaidTokens
    from vllm_diffusion.denoise.canvas import Canvas
    from vllm_diffusion.request.seed_canvas import SeedCanvas

    laid = LaidTokens(3, MASK)
    canvas = Canvas.over(torch.full((3, 4), MASK), MASK)
    seed = SeedCanvas(tokens=(5, 9, MASK, 6, 7, 9), pinned=(0, 4))
    laid.add(1, Asked(seed, 0.5, [9]))
    laid.start(1, canvas, [], 4, has_seed=False)
    laid.copy_to_device()
    # The token that ends the text is none in front of what is pinned.
    assert canvas.tokens_SL.tolist()[1] == [5, MASK, MASK, 6]
    assert canvas.masked_SL.tolist() == [[T] * 4, [F, T, T, T], [T] * 4]
    assert laid.draft_SL[1].tolist() == [F, F, F, T]
    assert (laid.last_pin_S.tolist(), laid.has_holes_S.tolist()) == ([-1, 4, -1], [F, T, F])
    assert laid.pinned_at(ints(1, 1, 0, 1), ints(4, 5, 4, 99)).tolist() == [7, MASK, MASK, MASK]
    # Started over behind four emitted tokens.
    canvas.clear(1)
    laid.start(1, canvas, [[5, 1, 2, 6]], 4, has_seed=False)
    assert canvas.tokens_SL.tolist()[1] == [7, 9, MASK, MASK]
    laid.add(1, None)
    laid.copy_to_device()
    assert laid.pinned_at(ints(1), ints(4)).tolist() == [MASK]
    assert not laid.is_laid_S.any()
