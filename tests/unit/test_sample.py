"""Candidates of canvas positions: greedy, drawn, and how sure the model is said to be.

Shape suffixes: N logits rows, V vocabulary, B requests, L canvas length.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.unit.denoise_inputs import cuts_of
from vllm_diffusion.denoise.sample import Draws, candidates
from vllm_diffusion.kernels import dispatch
from vllm_diffusion.sampling.top_k_top_p import keep_top

MASK_ID = 3
VOCAB_SIZE = 12


def logits_of(num: int, seed: int = 0, vocab_size: int = VOCAB_SIZE) -> Tensor:
    """Random rows in which the mask token is the most probable one by far."""
    generator = torch.Generator().manual_seed(seed)
    logits_NV = 2 * torch.randn(num, vocab_size, generator=generator)
    logits_NV[:, MASK_ID] = 50.0
    return logits_NV


def without_mask(logits_NV: Tensor) -> Tensor:
    rows_NV = logits_NV.clone().float()
    rows_NV[:, MASK_ID] = -torch.inf
    return rows_NV


def draws_of(
    row_N: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = VOCAB_SIZE,
    top_p: float = 1.0,
    seed_N: Tensor | None = None,
    position_N: Tensor | None = None,
    step: int = 0,
) -> Draws:
    num = len(row_N)
    return Draws(
        row_N=row_N,
        temperature_N=torch.full((num,), temperature),
        seed_N=seed_N if seed_N is not None else torch.zeros(num, dtype=torch.int64),
        position_N=position_N if position_N is not None else torch.arange(num),
        step_N=torch.full((num,), step),
        cuts=cuts_of(top=(torch.full((num,), top_k), torch.full((num,), top_p))),
    )


def sampled(logits_NV: Tensor, draws: Draws) -> Tensor:
    """The drawn tokens, one a row of logits."""
    row_BL = torch.arange(len(logits_NV))[:, None]
    return candidates(logits_NV, row_BL, MASK_ID, draws).token_BL[:, 0]


@pytest.fixture(params=["torch", "cpp"])
def implementation(request: pytest.FixtureRequest):
    if request.param == "cpp" and dispatch.active_row_stats() == "torch":
        pytest.skip(dispatch.row_stats_reason())
    with dispatch.forced(request.param):
        yield


@pytest.mark.usefixtures("implementation")
def test_greedy_candidates_are_statistics_of_the_row() -> None:
    logits_NV = logits_of(5)
    row_BL = torch.tensor([[0, 1, 2], [4, 3, 3]])
    answer = candidates(logits_NV, row_BL, MASK_ID)
    prob_NV = without_mask(logits_NV).softmax(dim=-1)
    top_N2 = prob_NV.topk(2, dim=-1)
    assert torch.equal(answer.token_BL, top_N2.indices[:, 0][row_BL])
    torch.testing.assert_close(answer.prob_BL, top_N2.values[:, 0][row_BL])
    torch.testing.assert_close(answer.second_BL, top_N2.values[:, 1][row_BL])
    torch.testing.assert_close(
        answer.entropy_BL, torch.special.entr(prob_NV).sum(-1)[row_BL], rtol=1e-4, atol=1e-5
    )


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("temperature", [0.01, 0.7, 2.0])
def test_confidence_is_not_scaled_by_the_temperature(temperature: float) -> None:
    logits_NV = logits_of(64)
    row_BL = torch.arange(64).view(8, 8)
    greedy = candidates(logits_NV, row_BL, MASK_ID)
    drawn = candidates(
        logits_NV, row_BL, MASK_ID, draws_of(torch.arange(64), temperature=temperature, top_k=4)
    )
    prob_NV = without_mask(logits_NV).softmax(dim=-1)
    torch.testing.assert_close(
        drawn.prob_BL.flatten(), prob_NV.gather(1, drawn.token_BL.view(-1, 1))[:, 0]
    )
    assert torch.equal(drawn.entropy_BL, greedy.entropy_BL)
    assert torch.equal(drawn.second_BL, greedy.second_BL)


def test_rows_that_are_not_drawn_stay_greedy() -> None:
    logits_NV = logits_of(40)
    row_N = torch.arange(0, 40, 2)
    tokens = sampled(logits_NV, draws_of(row_N, temperature=2.0))
    greedy = without_mask(logits_NV).argmax(dim=-1)
    assert torch.equal(tokens[1::2], greedy[1::2])
    assert not torch.equal(tokens[::2], greedy[::2])


@given(
    seed=st.integers(0, 2**31),
    temperature=st.sampled_from([0.01, 1.0, 2.0]),
    top_k=st.integers(1, VOCAB_SIZE),
    top_p=st.sampled_from([1e-6, 0.5, 1.0]),
)
def test_the_mask_token_is_never_a_candidate(
    seed: int, temperature: float, top_k: int, top_p: float
) -> None:
    logits_NV = logits_of(16, seed)
    draws = draws_of(torch.arange(16), temperature=temperature, top_k=top_k, top_p=top_p)
    assert (sampled(logits_NV, draws) != MASK_ID).all()


def test_a_draw_depends_on_seed_position_and_step_alone() -> None:
    row_V = logits_of(1)
    together_NV = torch.cat((logits_of(3, seed=9), row_V, logits_of(2, seed=8)))
    alone = sampled(row_V, draws_of(torch.tensor([0]), position_N=torch.tensor([77]), step=2))
    batched = sampled(
        together_NV,
        draws_of(
            torch.arange(6),
            position_N=torch.tensor([1, 2, 3, 77, 5, 6]),
            seed_N=torch.tensor([4, 5, 6, 0, 8, 9]),
            step=2,
        ),
    )
    assert int(batched[3]) == int(alone[0])


def chi_square(count_V: Tensor, prob_V: Tensor) -> float:
    expected_V = count_V.sum() * prob_V
    used_V = expected_V > 0
    assert (count_V[~used_V] == 0).all()
    return float(((count_V - expected_V)[used_V] ** 2 / expected_V[used_V]).sum())


@pytest.mark.parametrize("axis", ["seed", "position", "step"])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_draws_follow_the_softmax(axis: str, temperature: float) -> None:
    num = 20_000
    row_V = logits_of(1, seed=5)[0]
    counters = {
        name: torch.full((num,), 11, dtype=torch.int64) for name in ("seed", "position", "step")
    }
    counters[axis] = torch.arange(num)
    draws = Draws(
        row_N=torch.arange(num),
        temperature_N=torch.full((num,), temperature),
        seed_N=counters["seed"],
        position_N=counters["position"],
        step_N=counters["step"],
    )
    count_V = sampled(row_V.expand(num, -1), draws).bincount(minlength=VOCAB_SIZE).double()
    prob_V = (without_mask(row_V[None])[0] / temperature).softmax(dim=-1).double()
    # The 0.999 quantile of chi-square with 10 degrees of freedom (11 tokens can be drawn).
    assert chi_square(count_V, prob_V) < 29.59


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (5, 1.0, [0, 1, 2, 3, 4]),
        (2, 1.0, [1, 3]),
        (1, 1.0, [1]),
        (5, 0.4, [1]),  # 0.4 reaches 0.4
        (5, 0.41, [1, 3]),
        (5, 0.75, [0, 1, 3]),
        (5, 1e-9, [1]),  # never nothing
        (3, 0.9, [0, 1, 3]),  # 0.4 + 0.3 of 0.85: the third is needed
        (3, 0.8, [1, 3]),  # mass is counted among the three
    ],
)
def test_top_k_then_top_p(top_k: int, top_p: float, kept: list[int]) -> None:
    prob_V = torch.tensor([0.15, 0.4, 0.1, 0.3, 0.05])
    logits_NV = keep_top(prob_V.log()[None], torch.tensor([top_k]), torch.tensor([top_p]))
    assert logits_NV[0].isfinite().nonzero()[:, 0].tolist() == kept
    assert torch.equal(logits_NV[0, kept], prob_V.log()[kept])


def test_ties_at_the_border_stay_in() -> None:
    logits_NV = torch.tensor([[1.0, 3.0, 1.0, 1.0, 0.0]])
    kept_NV = keep_top(logits_NV, torch.tensor([2]), torch.tensor([1.0]))
    assert kept_NV.isfinite().tolist() == [[True, True, True, True, False]]


@given(seed=st.integers(0, 2**31), top_k=st.integers(1, 12), top_p=st.floats(0.01, 1.0))
def test_what_is_kept_is_the_smallest_sufficient_set(seed: int, top_k: int, top_p: float) -> None:
    logits_NV = torch.randn(1, 12, generator=torch.Generator().manual_seed(seed)) * 2
    kept_V = keep_top(logits_NV, torch.tensor([top_k]), torch.tensor([top_p]))[0].isfinite()
    in_k = logits_NV[0].topk(top_k).indices
    prob_V = torch.zeros(12).index_copy(0, in_k, logits_NV[0, in_k].softmax(dim=-1))
    num_kept = int(kept_V.sum())
    assert num_kept >= 1
    assert set(kept_V.nonzero()[:, 0].tolist()) <= set(in_k.tolist())
    best = prob_V.sort(descending=True).values
    assert best[: num_kept - 1].sum() <= top_p + 1e-5
    assert num_kept == top_k or best[:num_kept].sum() >= top_p - 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits(dtype: torch.dtype) -> None:
    logits_NV = logits_of(8).to(dtype)
    tokens = sampled(logits_NV, draws_of(torch.arange(8), top_k=1))
    assert torch.equal(tokens, without_mask(logits_NV).argmax(dim=-1))
