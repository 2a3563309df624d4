"""Counter-based draws: known values, Gumbel's distribution, and nothing but their counters."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vllm_diffusion.denoise.random import _open_uniform, gumbel, mix, uniform

GAMMA = 0x9E3779B97F4A7C15
int64s = st.integers(-(2**63), 2**63 - 1)


def signed(word: int) -> int:
    word %= 1 << 64
    return word - (1 << 64) if word >= 1 << 63 else word


def draws(seed: int, position: int, step: int, vocab_size: int = 64) -> Tensor:
    return gumbel(*torch.tensor([[seed], [position], [step]]), vocab_size)[0]


@pytest.mark.parametrize(
    ("number", "word"),
    [(1, 0xE220A8397B1DCDAF), (2, 0x6E789E6AA1B965F4), (3, 0x06C45D188009454F)],
)
def test_mix_is_splitmix64(number: int, word: int) -> None:
    """The published generator, seeded with 0."""
    assert int(mix(torch.tensor(signed(number * GAMMA)))) == signed(word)


def mixed(x: int) -> int:
    """SplitMix64's finaliser on an unsigned word."""
    x %= 1 << 64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % (1 << 64)
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % (1 << 64)
    return x ^ (x >> 31)


@given(int64s)
def test_mix_wraps_like_unsigned_words(value: int) -> None:
    assert int(mix(torch.tensor(value))) == signed(mixed(value))


@given(seed=int64s, position=st.integers(0, 2**20), step=st.integers(0, 64))
def test_a_row_does_not_depend_on_its_batch(seed: int, position: int, step: int) -> None:
    alone = draws(seed, position, step)
    batch = gumbel(
        torch.tensor([5, seed, seed, seed]),
        torch.tensor([position, position, position + 1, position]),
        torch.tensor([step, step, step, step + 1]),
        64,
    )
    assert torch.equal(batch[1], alone)
    for other in (0, 2, 3):
        assert not torch.equal(batch[other], alone)


def test_a_wider_vocabulary_begins_alike() -> None:
    """Padding of the vocabulary, which depends on the number of ranks, changes nothing."""
    assert torch.equal(draws(1, 2, 3, 100)[:64], draws(1, 2, 3, 64))


def test_neighbouring_counters_do_not_collide() -> None:
    """Swapped and shifted counters are other keys: no sum of them is what counts."""
    grid = torch.cartesian_prod(torch.arange(12), torch.arange(12), torch.arange(12))
    noise_NV = gumbel(grid[:, 0], grid[:, 1], grid[:, 2], 4)
    assert len(noise_NV.unique(dim=0)) == len(grid)


def test_noise_is_finite_and_gumbel() -> None:
    num = 2000
    noise = gumbel(
        torch.arange(num), torch.full((num,), 7), torch.zeros(num, dtype=torch.int64), 500
    )
    assert noise.dtype == torch.float32
    assert noise.isfinite().all()
    sorted_N = noise.flatten().double().sort().values
    cdf_N = torch.exp(-torch.exp(-sorted_N))
    uniform_N = torch.arange(1, len(sorted_N) + 1) / len(sorted_N)
    # Kolmogorov-Smirnov; 1.95 / sqrt(N) is passed by chance once in a thousand.
    assert (cdf_N - uniform_N).abs().max() < 1.95 / math.sqrt(len(sorted_N))


@pytest.mark.parametrize("axis", ["seed", "position", "step", "token"])
def test_neighbours_are_uncorrelated(axis: str) -> None:
    num = 4000
    counters = {name: torch.zeros(num, dtype=torch.int64) for name in ("seed", "position", "step")}
    if axis == "token":
        noise = draws(0, 0, 0, num)
    else:
        counters[axis] = torch.arange(num)
        noise = gumbel(counters["seed"], counters["position"], counters["step"], 1)[:, 0]
    pair = torch.stack((noise[:-1], noise[1:])).double()
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 3.3 / math.sqrt(num)


@given(seed=int64s, position=st.integers(0, 2**20), step=st.integers(0, 64))
def test_a_uniform_draw_is_the_front_of_its_word(seed: int, position: int, step: int) -> None:
    key = mixed(mixed(mixed(seed + GAMMA) + position) + step)
    draw = float(uniform(*torch.tensor([seed, position, step])))
    assert draw == pytest.approx(mixed(key) / 2**64, abs=2**-23)
    assert draw > 0


def test_uniform_draws_broadcast() -> None:
    draw_BL = uniform(
        torch.tensor([[1], [2]]),
        torch.tensor([[10, 11, 12], [20, 21, 22]]),
        torch.tensor([[0], [5]]),
    )
    assert draw_BL.shape == (2, 3)
    assert draw_BL.dtype == torch.float32
    assert float(draw_BL[1, 2]) == float(uniform(*torch.tensor([2, 22, 5])))


@pytest.mark.parametrize("axis", ["seed", "position", "step"])
def test_uniform_draws_are_uniform_along_each_counter(axis: str) -> None:
    num = 20000
    counters = {name: torch.zeros(num, dtype=torch.int64) for name in ("seed", "position", "step")}
    counters[axis] = torch.arange(num)
    draw_N = uniform(*counters.values()).double()
    expected_N = torch.arange(1, num + 1) / num
    # Kolmogorov-Smirnov, as above.
    assert (draw_N.sort().values - expected_N).abs().max() < 1.95 / math.sqrt(num)
    pair = torch.stack((draw_N[:-1], draw_N[1:]))
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 3.3 / math.sqrt(num)


def test_a_uniform_draw_is_none_of_the_tokens() -> None:
    """Which positions are filled says nothing about what they are filled with."""
    num, vocab_size = 300, 50
    counters = (torch.arange(num), torch.full((num,), 3), torch.ones(num, dtype=torch.int64))
    noise_NV = gumbel(*counters, vocab_size).double()
    chance_NV = torch.exp(-torch.exp(-noise_NV))
    draw_N = uniform(*counters).double()
    for token in range(vocab_size):
        pair = torch.stack((draw_N, chance_NV[:, token]))
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 4 / math.sqrt(num)


def test_no_draw_is_infinite() -> None:
    """The bits that are nearest to 0 and to 1 are draws like any other."""
    draw_N = _open_uniform(torch.tensor([0, -1]))
    assert ((draw_N > 0) & (draw_N < 1)).all()
    assert torch.isfinite(gumbel(*torch.tensor([[77], [0], [0]]), 151936)).all()
