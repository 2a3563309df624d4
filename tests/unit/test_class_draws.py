"""Draws by class of token against draws token by token."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unit.denoise_inputs import cuts_of
from vllm_diffusion.denoise.random import gumbel, key_of
from vllm_diffusion.denoise.sample import Draws
from vllm_diffusion.kernels import cpu_class_stats, library
from vllm_diffusion.kernels.dispatch import forced
from vllm_diffusion.structured.class_draws import CUT, class_draws, defined
from vllm_diffusion.structured.class_stats import class_stats
from vllm_diffusion.structured.class_stats import defined as defined_stats
from vllm_diffusion.structured.token_classes import TokenClasses

MASK = 3
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def draws_of(count: int, size: int, seed: int = 0, *, is_cut: bool = False) -> Draws:
    rng = np.random.default_rng(seed)

    def each(values: list[float]) -> Tensor:
        return torch.from_numpy(rng.choice(values, count).astype(np.float32))

    return Draws(
        row_N=torch.arange(count),
        temperature_N=each([0.3, 1.0, 1.7]),
        seed_N=torch.arange(count) + 100 * seed,
        position_N=torch.arange(count) % 7,
        step_N=torch.arange(count) % 3,
        cuts=cuts_of(
            top=(each([2, 20, size]).long(), each([0.4, 0.9, 1.0])),
            min_p=each([0.0, 0.1]),
            sigma=each([torch.inf, 1.5]),
        )
        if is_cut
        else (),
    )


def logits_of(count: int, size: int, seed: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, size, generator=generator) * 4
    logits[0, ::5] = -torch.inf
    return logits.to(dtype)


def classes_of(size: int, num_classes: int, seed: int, count: int) -> list[TokenClasses]:
    """Of very different sizes; the last ones empty."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(num_classes - 2, 0.3))
    return [
        TokenClasses(
            rng.choice(num_classes - 2, size, p=share).astype(np.int32), num_classes - k % 3
        )
        for k in range(count)
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", library.LEVELS[: library.library().best_level + 1])
@pytest.mark.parametrize("size", [7, 64, 1000, 70_000])
def test_statistics_at_every_level(size: int, level: str, dtype: torch.dtype) -> None:
    logits = logits_of(4, size, size, dtype)
    one, other = classes_of(size, 9, size, 2)
    rows, classes = np.array([2, 0, 3]), [one, other, one]
    wanted = defined_stats(logits, rows, classes, 9, MASK)
    found = cpu_class_stats.class_stats(logits, rows, classes, 9, MASK, level=level)
    assert (found[4] == wanted.token).all()
    for a, b in zip(found[:4], wanted[:4], strict=True):
        assert torch.allclose(a.double(), b.double(), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", library.LEVELS[: library.library().best_level + 1])
@pytest.mark.parametrize("size", [7, 64, 1000, 70_000])
def test_draws_at_every_level(size: int, level: str, dtype: torch.dtype) -> None:
    logits = logits_of(6, size, size, dtype)
    classes = classes_of(size, 9, size, 6)
    draws = draws_of(6, size, size)
    wanted = defined(logits, np.arange(6), classes, 9, MASK, draws)
    lowest = torch.full((6,), -torch.inf)
    key = key_of(draws.seed_N, draws.position_N, draws.step_N)
    found = cpu_class_stats.class_draws(
        logits,
        np.arange(6),
        classes,
        9,
        MASK,
        draws.temperature_N,
        lowest,
        key,
        level=level,
    )
    assert (found[2] == wanted.token).all()
    assert (found[2] >= 0).sum() > 6
    for a, b in zip(found[:2], wanted[:2], strict=True):
        assert torch.allclose(a, b, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_cut_draws_equal_their_definition(seed: int) -> None:
    size = 3000
    logits = logits_of(12, size, seed, torch.float32)
    classes = classes_of(size, 9, seed, 12)
    draws = draws_of(12, size, seed, is_cut=True)
    wanted = defined(logits, np.arange(12), classes, 9, MASK, draws)
    with forced("cpp"):
        found = class_draws(logits, np.arange(12), classes, 9, MASK, draws)
    assert (found.token == wanted.token).all()
    assert torch.allclose(found.total, wanted.total, atol=2e-3, rtol=1e-5)
    assert torch.allclose(found.value, wanted.value, atol=2e-3, rtol=1e-5)
    is_out = (wanted.total < -CUT / 2) & (wanted.total > -torch.inf)
    assert is_out.any() and not is_out.all()


@pytest.mark.parametrize("implementation", ["torch", "cpp"])
def test_the_best_class_draws_what_all_tokens_draw(implementation: str) -> None:
    """The random numbers are those of a request without a constraint."""
    size, count = 500, 200
    logits = logits_of(count, size, 1, torch.float32)
    draws = draws_of(count, size, 2)
    classes = classes_of(size, 9, 3, 1) * count
    with forced(implementation):
        found = class_draws(logits, np.arange(count), classes, 9, MASK, draws)
    best = found.value.argmax(dim=1, keepdim=True)
    rows = logits.clone()
    rows[:, MASK] = -torch.inf
    noise = gumbel(draws.seed_N, draws.position_N, draws.step_N, size)
    wanted = (rows / draws.temperature_N[:, None] + noise).argmax(dim=1)
    assert (found.token.gather(1, best)[:, 0] == wanted).all()


@pytest.mark.parametrize("implementation", ["torch", "cpp"])
def test_a_class_is_never_too_improbable(implementation: str) -> None:
    """What must come may be: its sums and its draw do not vanish beside the rest."""
    logits = torch.tensor([[0.0, -900.0, -901.0, 50.0]])
    classes = [TokenClasses(np.array([0, 1, 1, 0], np.int32), 2)]
    with forced(implementation):
        stats = class_stats(logits, np.array([0]), classes, 2, MASK)
        found = class_draws(logits, np.array([0]), classes, 2, MASK, draws_of(1, 4))
    assert stats.total[0].tolist() == pytest.approx([0.0, -900 + np.log(1 + np.exp(-1.0))])
    assert stats.token[0].tolist() == [0, 1]
    assert found.total[0, 1] > -np.inf and int(found.token[0, 1]) in (1, 2)


@pytest.mark.parametrize("implementation", ["torch", "cpp"])
def test_classes_and_tokens_come_as_often_as_they_should(implementation: str) -> None:
    """20,000 draws of each class, and the classes' winners, against the exact distribution."""
    count, size, temperature = 20_000, 40, 1.3
    row = torch.randn(size, generator=torch.Generator().manual_seed(5)) * 1.5
    classes = TokenClasses((np.arange(size) % 3).astype(np.int32), 3)
    draws = replace(draws_of(count, size), temperature_N=torch.full((count,), temperature))
    with forced(implementation):
        found = class_draws(
            row.expand(count, size).contiguous(),
            np.arange(count),
            [classes] * count,
            3,
            MASK,
            draws,
        )
    scaled = (row / temperature).double()
    scaled[MASK] = -torch.inf
    for c in range(3):
        is_in = torch.from_numpy(classes.class_V == c)
        expected = scaled.masked_fill(~is_in, -torch.inf).softmax(0) * count
        assert_as_often(torch.bincount(found.token[:, c], minlength=size).double(), expected)
    best = found.value.argmax(1, keepdim=True)
    drawn = found.token.gather(1, best)[:, 0]
    assert_as_often(torch.bincount(drawn, minlength=size).double(), scaled.softmax(0) * count)


def assert_as_often(found: Tensor, expected: Tensor) -> None:
    assert not found[expected == 0].any()
    often = expected >= 5
    statistic = ((found - expected) ** 2 / expected)[often].sum()
    freedom = (often.sum().double() - 1) / 2
    assert torch.special.gammaincc(freedom, statistic / 2) > 0.01


@pytest.mark.parametrize("implementation", ["cpp", "torch"])
def test_a_step_may_have_no_row_to_read(implementation: str) -> None:
    logits, row = logits_of(4, 50, 0, torch.float32), np.zeros(0, dtype=np.int64)
    with forced(implementation):
        stats = class_stats(logits, row, [], 5, MASK)
        drawn = class_draws(logits, row, [], 5, MASK, draws_of(0, 50))
    assert all(tensor.shape == (0, 5) for tensor in (stats.total, stats.token, drawn.token))
