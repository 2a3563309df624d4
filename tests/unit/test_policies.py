"""Each acceptance policy against its formula, on tables and at random."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.denoise_inputs import POLICY_NAMES, candidates_of, params_of, view_of
from vllm_diffusion.denoise.accept import accepted_positions
from vllm_diffusion.denoise.policies import POLICIES, POLICY_INDEX, StepView
from vllm_diffusion.denoise.random import uniform
from vllm_diffusion.denoise.rules import Chances
from vllm_diffusion.denoise.sample import Candidates
from vllm_diffusion.denoise.step import denoise


def accepted(
    name: str, view: StepView, *, max_steps: int | None = None, step: int = 0
) -> list[int]:
    """Positions that a step takes; by default with the smallest floor, one position."""
    length = view.masked_BL.shape[1]
    taken_BL, _ = accepted_positions(
        view,
        torch.tensor([step]),
        policies=(name,),
        policy_B=torch.tensor([POLICY_INDEX[name]]),
        block_length_B=torch.tensor([length]),
        max_steps_B=torch.tensor([max_steps or length]),
        width_B=torch.tensor([length]),
    )
    return taken_BL[0].nonzero()[:, 0].tolist()


def test_names_are_frozen() -> None:
    """Clients send these names; the worker sends their numbers."""
    assert POLICY_NAMES == (
        "confidence",
        "static",
        "entropy",
        "margin",
        "maskgit_plus",
        "topk_margin",
        "topk_entropy",
        "origin",
        "self_speculation",
    )
    assert list(POLICY_INDEX.values()) == list(range(9))
    assert all(policy.name == name for name, policy in POLICIES.items())


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_default_threshold_is_in_range(name: str) -> None:
    low, high = POLICIES[name].threshold_range
    assert low <= POLICIES[name].default_threshold <= high


@pytest.mark.parametrize(
    ("prob", "masked", "threshold", "expected"),
    [
        ([0.95, 0.2, 0.91, 0.9], [1, 1, 1, 1], 0.9, [0, 2]),  # strict: 0.9 itself waits
        ([0.5, 0.2, 0.6, 0.1], [1, 1, 1, 1], 0.9, [2]),  # none is sure: the best one
        ([0.5, 0.2, 0.6, 0.1], [1, 1, 0, 1], 0.9, [0]),  # the best one is settled already
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 1, 1], 0.9, [1]),  # equal scores: the leftmost
        ([0.5, 0.2, 0.6, 0.1], [1, 1, 1, 1], 0.0, [0, 1, 2, 3]),  # 0 takes everything
        ([1.0, 1.0, 1.0, 1.0], [1, 1, 1, 1], 1.0, [0]),  # 1 takes one a step
        ([0.99, 0.99, 0.1, 0.1], [0, 0, 0, 1], 0.5, [3]),
    ],
)
def test_confidence(
    prob: list[float], masked: list[int], threshold: float, expected: list[int]
) -> None:
    view = view_of(prob, threshold=threshold, masked=[bool(m) for m in masked])
    assert accepted("confidence", view) == expected


@pytest.mark.parametrize(
    ("prob", "second", "threshold", "expected"),
    [
        ([0.9, 0.6, 0.5, 0.3], [0.05, 0.39, 0.01, 0.3], 0.4, [0, 2]),
        ([0.5, 0.4, 0.3, 0.2], [0.5, 0.1, 0.2, 0.2], 0.9, [1]),  # 0.3 is the widest margin
        ([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], 0.0, [0]),  # a tie is no margin
        ([0.75, 0.5, 0.5, 0.5], [0.25, 0.5, 0.5, 0.5], 0.5, [0]),  # strict, yet the best
    ],
)
def test_margin(
    prob: list[float], second: list[float], threshold: float, expected: list[int]
) -> None:
    assert accepted("margin", view_of(prob, second=second, threshold=threshold)) == expected


@pytest.mark.parametrize(
    ("entropy", "masked", "threshold", "expected"),
    [
        ([0.25, 0.5, 0.125, 2.0], [1, 1, 1, 1], 0.375, [0, 2]),  # 0.125 + 0.25 just fits
        ([0.25, 0.5, 0.125, 2.0], [1, 1, 1, 1], 0.37, [2]),
        ([0.25, 0.5, 0.125, 2.0], [1, 1, 0, 1], 0.75, [0, 1]),  # settled ones cost nothing
        ([3.0, 2.0, 4.0, 5.0], [1, 1, 1, 1], 0.1, [1]),  # none fits: the surest
        ([0.0, 0.0, 1.0, 0.0], [1, 1, 1, 1], 0.0, [0, 1, 3]),  # 0 takes what is certain
        ([3.0, 2.0, 4.0, 5.0], [1, 1, 1, 1], 1000.0, [0, 1, 2, 3]),
    ],
)
def test_entropy(
    entropy: list[float], masked: list[int], threshold: float, expected: list[int]
) -> None:
    view = view_of(
        [0.5] * 4, entropy=entropy, threshold=threshold, masked=[bool(m) for m in masked]
    )
    assert accepted("entropy", view) == expected


@pytest.mark.parametrize(
    ("max_steps", "step", "expected"),
    [
        (6, 0, [4]),
        (3, 0, [1, 4]),
        (2, 0, [1, 4, 5]),
        (1, 0, [0, 1, 2, 3, 4, 5]),
        (4, 0, [1, 4]),  # 6 = 2 + 2 + 1 + 1
        (4, 1, [1, 4]),
        (4, 2, [4]),
        (4, 3, [4]),
        (100, 0, [4]),
    ],
)
def test_static_takes_the_schedule(max_steps: int, step: int, expected: list[int]) -> None:
    view = view_of([0.1, 0.8, 0.3, 0.2, 0.9, 0.7], threshold=0.0)
    assert accepted("static", view, max_steps=max_steps, step=step) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("maskgit_plus", [0, 3]),
        ("topk_margin", [0, 2]),
        ("topk_entropy", [1, 2]),
    ],
)
def test_a_clock_takes_so_many_of_the_best(name: str, expected: list[int]) -> None:
    """Step 1 of 3: ``t`` is 0.667 and 0.334, so that half of the five masks are filled."""
    view = view_of(
        [0.9, 0.3, 0.6, 0.8, 0.2, 0.99],
        second=[0.1, 0.3, 0.1, 0.7, 0.1, 0.0],
        entropy=[0.5, 0.1, 0.2, 0.6, 3.0, 0.0],
        masked=[True, True, True, True, True, False],
        threshold=0.0,
    )
    assert accepted(name, view, max_steps=3, step=1) == expected


@pytest.mark.parametrize(
    ("step", "share", "expected"),
    [(0, 0.25, [1]), (1, 0.4, [1, 3]), (2, 1.0, [0, 1, 3]), (0, 0.1, [])],
)
def test_origin_goes_by_chance(step: int, share: float, expected: list[int]) -> None:
    """Whatever the model says; in the last step it takes all."""
    view = view_of(
        [1.0, 0.1, 1.0, 0.5],
        masked=[True, True, False, True],
        threshold=0.0,
        share=share,
        uniform=[1.0, 0.125, 0.01, 0.25],
    )
    assert accepted("origin", view, max_steps=3, step=step) == expected


def test_origin_unmasks_as_time_runs() -> None:
    """Of many positions the share that is masked after step i is ``t[i + 1]``."""
    num, num_steps = 4096, 16
    tokens_BL = torch.zeros(1, num, dtype=torch.int64)
    masked_BL = torch.ones(1, num, dtype=torch.bool)
    step_B = torch.zeros(1, dtype=torch.int64)
    answer = Candidates(tokens_BL, *[torch.full((1, num), 0.5)] * 3)
    for step in range(num_steps):
        params = params_of(
            ["origin"],
            threshold=[0.0],
            max_steps=[num_steps],
            block_length=[num],
        )
        uniform_BL = uniform(torch.tensor([[7]]), torch.arange(num)[None], step_B[:, None])
        rules = [Chances(uniform_BL)]
        result = denoise(tokens_BL, masked_BL, step_B, answer, params, rules)
        masked_BL, step_B = result.masked_BL, result.step_B
        expected = 1 - 0.999 * (step + 1) / num_steps if step < num_steps - 1 else 0.0
        # Four standard deviations.
        within = 4 * (expected * (1 - expected) / num) ** 0.5
        assert abs(float(masked_BL.float().mean()) - expected) <= within
        assert int(step_B) == step + 1
    assert result.num_emitted_B.tolist() == [num]


def test_a_draft_takes_everything() -> None:
    view = view_of([0.1, 0.9, 0.0, 0.5], masked=[True, False, True, True], threshold=0.0)
    assert accepted("self_speculation", view) == [0, 2, 3]


def time_share(step: int, num_steps: int) -> Fraction:
    """``1 - t[i + 1] / t[i]`` with t from 1 to 1 / 1000; 1 in the last step."""
    if step >= num_steps - 1:
        return Fraction(1)
    return Fraction(999) / (1000 * num_steps - 999 * step)


def floor_by_formula(name: str, num_masked: int, length: int, max_steps: int, step: int) -> int:
    """Positions that a step must take."""
    if name in ("maskgit_plus", "topk_margin", "topk_entropy"):
        num_steps = min(max_steps, length)
        while num_masked and num_masked * time_share(step, num_steps) < 1:
            step += 1
        return int(num_masked * time_share(step, num_steps))
    if name == "origin":
        return num_masked if step >= min(max_steps, length) - 1 else 0
    return max(1, length // max_steps + (step < length % max_steps))


def by_formula(name: str, view: StepView, floor: int) -> list[int]:
    """The policies once more, position by position."""
    threshold = float(view.threshold_B[0])
    prob, second, entropy = (t[0].tolist() for t in (view.prob_BL, view.second_BL, view.entropy_BL))
    if name in ("entropy", "topk_entropy"):
        score = [-h for h in entropy]
    elif name in ("margin", "topk_margin"):
        score = [p - q for p, q in zip(prob, second, strict=True)]
    else:
        score = prob
    masked = view.masked_BL[0].nonzero()[:, 0].tolist()
    ranked = sorted(masked, key=lambda i: (-score[i], i))
    taken = set(ranked[:floor])
    if name in ("confidence", "margin"):
        taken |= {i for i in masked if score[i] > threshold}
    if name == "entropy":
        total = 0.0
        for i in ranked:
            total += entropy[i]
            if total > threshold:
                break
            taken.add(i)
    if name == "origin":
        taken |= {i for i in masked if float(view.uniform_BL[0, i]) < float(view.share_B[0])}
    return sorted(masked if name == "self_speculation" else taken)


@given(
    name=st.sampled_from(POLICY_NAMES),
    # Eighths are exact in float32, sums included: every border case is decided alike.
    rows=st.lists(
        st.tuples(
            st.integers(0, 8),
            st.integers(0, 4),
            st.integers(0, 16),
            st.booleans(),
            st.integers(1, 63),
        ),
        min_size=1,
        max_size=16,
    ),
    threshold=st.integers(0, 8),
    max_steps=st.integers(1, 16),
    step=st.integers(0, 15),
)
def test_a_policy_is_its_formula(
    name: str,
    rows: list[tuple[int, int, int, bool, int]],
    threshold: int,
    max_steps: int,
    step: int,
) -> None:
    prob, second, entropy, masked, chance = zip(*rows, strict=True)
    view = view_of(
        [p / 8 for p in prob],
        second=[min(s, p) / 8 for s, p in zip(second, prob, strict=True)],
        entropy=[h / 8 for h in entropy],
        masked=list(masked),
        threshold=threshold / 8,
        share=float(time_share(step, min(max_steps, len(rows)))),
        uniform=[u / 64 for u in chance],
    )
    floor = floor_by_formula(name, sum(masked), len(rows), max_steps, step)
    assert accepted(name, view, max_steps=max_steps, step=step) == by_formula(name, view, floor)


def opinion(tokens: list[int], masked: list[bool], vocab_size: int) -> list[tuple[int, float]]:
    """A model that changes its mind with every token it reads: (token, how sure) by position."""
    read = tuple(-1 if m else token for token, m in zip(tokens, masked, strict=True))
    chance = Random(str(read))
    return [(chance.randrange(vocab_size), chance.randrange(1, 2**20) / 2**20) for _ in tokens]


@pytest.mark.parametrize("length", [1, 2, 5, 8, 16, 31])
@pytest.mark.parametrize("max_steps", [1, 3, 8, 16, 31])
def test_dream_is_its_loop(length: int, max_steps: int) -> None:
    """Every step of the literal loop asks the model, those that fill nothing too."""
    num_steps = min(max_steps, length)
    tokens, masked, fillings = [0] * length, [True] * length, 0
    for step in range(num_steps):
        answer = opinion(tokens, masked, 50)
        num = int(sum(masked) * time_share(step, num_steps))
        open_ = [i for i in range(length) if masked[i]]
        for i in sorted(open_, key=lambda i: -answer[i][1])[:num]:
            tokens[i], masked[i] = answer[i][0], False
        fillings += num > 0

    tokens_BL = torch.zeros(1, length, dtype=torch.int64)
    masked_BL = torch.ones(1, length, dtype=torch.bool)
    step_B = torch.zeros(1, dtype=torch.int64)
    params = params_of(
        ["maskgit_plus"], threshold=[0.0], max_steps=[max_steps], block_length=[length]
    )
    num_forwards = 0
    while masked_BL.any():
        answer = opinion(tokens_BL[0].tolist(), masked_BL[0].tolist(), 50)
        token, prob = zip(*answer, strict=True)
        result = denoise(tokens_BL, masked_BL, step_B, candidates_of([token], [prob]), params)
        tokens_BL, masked_BL, step_B = result.tokens_BL, result.masked_BL, result.step_B
        num_forwards += 1
    assert tokens_BL[0].tolist() == tokens
    assert num_forwards == fillings
