"""Each acceptance policy against its formula, on tables and at random."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.denoise_inputs import POLICY_NAMES, params_of, view_of
from vllm_diffusion.denoise.policies import POLICIES, POLICY_INDEX
from vllm_diffusion.denoise.step import accepted_positions, min_accepted


def accepted(name: str, view, *, max_steps: int | None = None, step: int = 0) -> list[int]:
    """Positions that a step takes; by default with the smallest floor, one position."""
    length = view.masked_BL.shape[1]
    params = params_of(
        [name],
        threshold=view.threshold_B.tolist(),
        max_steps=[max_steps or length],
        block_length=[length],
    )
    taken_BL = accepted_positions(view, torch.tensor([step]), params)
    return taken_BL[0].nonzero()[:, 0].tolist()


def test_names_are_frozen() -> None:
    """Clients send these names; the worker sends their numbers."""
    assert POLICY_NAMES == ("confidence", "static", "entropy", "margin")
    assert list(POLICY_INDEX.values()) == [0, 1, 2, 3]
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


@given(length=st.integers(1, 64), max_steps=st.integers(1, 80))
def test_the_schedule_sums_up_to_the_block(length: int, max_steps: int) -> None:
    """LLaDA's ``get_num_transfer_tokens``: whole shares, the remainder first."""
    params = params_of(["static"], threshold=[0], max_steps=[max_steps], block_length=[length])
    shares = [int(min_accepted(torch.tensor([s]), params)) for s in range(max_steps)]
    if max_steps <= length:
        assert sum(shares) == length
        assert shares == sorted(shares, reverse=True)
        assert max(shares) - min(shares) <= 1
    else:
        assert set(shares) == {1}


def by_formula(name: str, view, floor: int) -> list[int]:
    """The policies once more, position by position."""
    threshold = float(view.threshold_B[0])
    prob, entropy = (t[0].double().tolist() for t in (view.prob_BL, view.entropy_BL))
    score = {
        "confidence": prob,
        "static": prob,
        "entropy": [-h for h in entropy],
        "margin": [float(p) for p in (view.prob_BL - view.second_BL)[0]],
    }[name]
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
    return sorted(taken)


@given(
    name=st.sampled_from(POLICY_NAMES),
    # Eighths are exact in float32, sums included: every border case is decided alike.
    rows=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(0, 16), st.booleans()),
        min_size=1,
        max_size=16,
    ),
    threshold=st.integers(0, 8),
    max_steps=st.integers(1, 16),
    step=st.integers(0, 15),
)
def test_a_policy_is_its_formula(
    name: str,
    rows: list[tuple[int, int, int, bool]],
    threshold: int,
    max_steps: int,
    step: int,
) -> None:
    prob, second, entropy, masked = zip(*rows, strict=True)
    view = view_of(
        [p / 8 for p in prob],
        second=[min(s, p) / 8 for s, p in zip(second, prob, strict=True)],
        entropy=[h / 8 for h in entropy],
        masked=list(masked),
        threshold=threshold / 8,
    )
    floor = max(1, len(rows) // max_steps + (step < len(rows) % max_steps))
    assert accepted(name, view, max_steps=max_steps, step=step) == by_formula(name, view, floor)
