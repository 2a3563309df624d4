"""The canvases of all slots."""

from __future__ import annotations

import torch

from vllm_diffusion.denoise.canvas import Canvas

MASK_ID = 3


def test_the_runners_tokens_are_shared() -> None:
    tokens_SL = torch.zeros(3, 4, dtype=torch.int64)
    canvas = Canvas.over(tokens_SL, MASK_ID)
    assert canvas.tokens_SL is tokens_SL
    assert canvas.masked_SL.shape == (3, 4)
    assert canvas.masked_SL.dtype == torch.bool
    assert canvas.masked_SL.all()
    assert canvas.step_S.tolist() == canvas.post_step_S.tolist() == [0, 0, 0]


def test_the_two_counts_are_apart() -> None:
    canvas = Canvas.over(torch.zeros(3, 4, dtype=torch.int64), MASK_ID)
    canvas.step_S += 2
    assert canvas.post_step_S.tolist() == [0, 0, 0]


def test_clearing_a_slot_leaves_the_others() -> None:
    canvas = Canvas.over(torch.full((3, 4), 7), MASK_ID)
    canvas.masked_SL.fill_(False)
    canvas.step_S.fill_(5)
    canvas.post_step_S.fill_(4)
    canvas.clear(1)
    assert canvas.tokens_SL.tolist() == [[7] * 4, [MASK_ID] * 4, [7] * 4]
    assert canvas.masked_SL.tolist() == [[False] * 4, [True] * 4, [False] * 4]
    assert canvas.step_S.tolist() == [5, 0, 5]
    assert canvas.post_step_S.tolist() == [4, 0, 4]
