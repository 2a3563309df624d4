"""Top-n-sigma sampling: what is kept, against loops over tokens."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.denoise_inputs import cuts_of
from vllm_diffusion.denoise.sample import Draws, candidates
from vllm_diffusion.sampling.top_n_sigma import keep_top_n_sigma

INF = math.inf
logit = st.sampled_from([-INF, -2.5, -1.0, 0.0, 0.5, 1.0, 3.0, 7.25])
rows = st.lists(logit, min_size=5, max_size=5).filter(lambda row: max(row) > -INF)


def kept(row: list[float], num_sigma: float) -> tuple[list[int], float]:
    """Tokens, and how far the closest one is from the border."""
    possible = [x for x in row if x > -INF]
    mean = sum(possible) / len(possible)
    sigma = math.sqrt(sum((x - mean) ** 2 for x in possible) / len(possible))
    lowest = max(possible) - num_sigma * sigma
    room = min((abs(x - lowest) for x in possible if x != max(possible)), default=INF)
    return [v for v, x in enumerate(row) if x > -INF and x >= lowest], room


@given(
    st.lists(st.tuples(rows, st.sampled_from([0.01, 0.5, 1.0, 1.7, 3.0])), min_size=1, max_size=4)
)
def test_what_is_kept_is_that_of_a_loop(asked: list[tuple[list[float], float]]) -> None:
    before_NV = torch.tensor([row for row, _ in asked])
    after_NV = keep_top_n_sigma(before_NV, torch.tensor([n for _, n in asked]))
    for n, (row, num_sigma) in enumerate(asked):
        want, room = kept(row, num_sigma)
        if room > 1e-5:
            assert (after_NV[n] > -INF).nonzero()[:, 0].tolist() == want
        is_kept_V = after_NV[n] > -INF
        assert torch.equal(after_NV[n][is_kept_V], before_NV[n][is_kept_V])
        assert bool(is_kept_V[before_NV[n].argmax()])


def test_a_row_by_hand() -> None:
    """Mean 3, standard deviation 2: five tokens, and one that does not count."""
    row_NV = torch.tensor([[0.0, 2.0, 3.0, 4.0, 6.0, -INF]])
    for num_sigma, want in ((0.5, [4]), (1.0, [3, 4]), (1.5, [2, 3, 4]), (3.0, [0, 1, 2, 3, 4])):
        after_NV = keep_top_n_sigma(row_NV, torch.tensor([num_sigma]))
        assert (after_NV[0] > -INF).nonzero()[:, 0].tolist() == want


@pytest.mark.parametrize(
    "row", [[1.0, 1.0, 1.0], [-INF, 2.0, -INF], [-INF, -INF, -INF], [0.0, 5.0, 1.0]]
)
def test_off_is_off(row: list[float]) -> None:
    row_NV = torch.tensor([row])
    assert torch.equal(keep_top_n_sigma(row_NV, torch.tensor([INF])), row_NV)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 50.0])
def test_the_temperature_does_not_change_what_is_kept(temperature: float) -> None:
    """Of 4,000 draws from a row, none is of a token that is left out, nor is the mask token."""
    num, mask_id = 4000, 6
    row_V = torch.tensor([0.0, 1.0, 2.0, 9.0, 9.5, 10.0, 80.0])
    draws = Draws(
        row_N=torch.arange(num),
        temperature_N=torch.full((num,), temperature),
        seed_N=torch.arange(num),
        position_N=torch.zeros(num, dtype=torch.int64),
        step_N=torch.zeros(num, dtype=torch.int64),
        cuts=cuts_of(sigma=torch.full((num,), 0.5)),
    )
    logits_NV = row_V.repeat(num, 1)
    answer = candidates(logits_NV, torch.arange(num)[:, None], mask_id, draws)
    want = {5} if temperature < 0.1 else {3, 4, 5}
    assert set(answer.token_BL[:, 0].tolist()) == want
    # How sure the model is stays that of all tokens.
    prob_V = row_V[:mask_id].softmax(-1)
    torch.testing.assert_close(answer.prob_BL[:, 0], prob_V[answer.token_BL[:, 0]])
