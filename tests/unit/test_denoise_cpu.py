"""The plain denoising step in C++ against ``denoise`` in torch, to the bit.

Shape suffixes: S slots, R requests in the batch, B of them with a canvas, L canvas length, N rows
of logits, V vocabulary, E stop ids.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.unit.denoise_inputs import Step, candidates_of, params_of, random_candidates, random_step
from vllm_diffusion.denoise.policies import POLICIES, POLICY_INDEX
from vllm_diffusion.denoise.sample import Candidates
from vllm_diffusion.denoise.step import StepResult
from vllm_diffusion.kernels import library
from vllm_diffusion.kernels.cpu_denoise import (
    RULES,
    Denoiser,
    Outcome,
    Requests,
    Slots,
)
from vllm_diffusion.kernels.cpu_row_stats import row_stats
from vllm_diffusion.kernels.reference import LOGITS_DTYPES, RowStats

pytestmark = pytest.mark.skipif(
    library.library().functions is None, reason=library.library().reason
)

MASK_ID = 11
NAN, INF = torch.nan, torch.inf


def plain(step: Step, rule_B: Tensor) -> Step:
    """The same step under the rules that C++ has, and with nothing that it has not."""
    names = [RULES[index] for index in rule_B.tolist()]
    params = replace(
        step.params,
        policies=tuple(dict.fromkeys(names)),
        policy_B=torch.tensor([POLICY_INDEX[name] for name in names]),
    )
    return replace(step, params=params, seeds=None, sub_blocks=None, edits=None, chances=None)


@dataclass
class Harness:
    """A step's requests in slots and in a batch, both shuffled and with others among them."""

    step: Step
    slots: Slots
    slot_B: Tensor
    request_B: Tensor
    requests: Requests
    rejected_B: Tensor

    @classmethod
    def over(
        cls,
        step: Step,
        rule_B: Tensor,
        seed: int = 0,
        max_model_len: int = 10**9,
    ) -> Harness:
        """Two slots and one request have no part in the step."""
        generator = torch.Generator().manual_seed(seed)
        num = len(step.step_B)
        slot_S = torch.randperm(num + 2, generator=generator)
        slot_B = slot_S[:num]
        request_B = torch.randperm(num + 1, generator=generator)[:num]
        total_len_B = torch.randint(0, 100, (num,), generator=generator)
        max_len_B = total_len_B + step.params.limit_B
        limit_B = max_len_B.clamp(max=max_model_len) - total_len_B
        step = replace(step, params=replace(step.params, limit_B=limit_B))

        def in_slots(value_B: Tensor) -> Tensor:
            value_S = torch.randint(0, 9, (num + 2, *value_B.shape[1:]), generator=generator)
            return value_S.to(value_B.dtype).index_copy(0, slot_B, value_B)

        def in_batch(value_B: Tensor, other: int) -> Tensor:
            return torch.full((num + 1,), other).index_copy(0, request_B, value_B)

        slots = Slots(
            rule_S=in_slots(rule_B),
            threshold_S=in_slots(step.params.threshold_B),
            max_steps_S=in_slots(step.params.max_steps_B),
            block_length_S=in_slots(step.params.block_length_B),
            max_len_S=in_slots(max_len_B),
            stop_ids_SE=in_slots(step.params.stop_ids_BE),
            total_len_S=in_slots(total_len_B.int()),
            tokens_SL=in_slots(step.tokens_BL),
            masked_SL=in_slots(step.masked_BL),
            step_S=in_slots(step.step_B),
            max_model_len=max_model_len,
            mask_id=MASK_ID,
        )
        # The host's decision, of which C++ knows nothing.
        rejected_B = torch.randint(1, 200, (num,), generator=generator)
        row_border_R = torch.zeros(num + 2, dtype=torch.int32)
        row_border_R[1:] = in_batch(step.params.width_B, 0).cumsum(0)
        requests = Requests(
            slot_R=in_batch(slot_B, int(slot_S[num])),
            row_border_R=row_border_R,
            rejected_R=in_batch(rejected_B, 7),
        )
        return cls(step, slots, slot_B, request_B, requests, rejected_B)

    def rows(self, value_BL: Tensor) -> Tensor:
        """The positions that exist, one a row of logits."""
        width_B = self.step.params.width_B
        return torch.cat([value_BL[b, : width_B[b]] for b in self.request_B.argsort().tolist()])

    def check(self) -> None:
        """Run the step both ways; what it leaves is the next step's canvas."""
        candidates = self.step.candidates
        stats = RowStats(
            argmax_N=self.rows(candidates.token_BL),
            prob_N=self.rows(candidates.prob_BL),
            second_N=self.rows(candidates.second_BL),
            entropy_N=self.rows(candidates.entropy_BL),
            lse_N=torch.empty(0),  # of no use here
        )
        before = self._others()
        self.compare(Denoiser(self.slots).from_stats(stats, self.requests), self.step.run())
        for found, expected in zip(self._others(), before, strict=True):
            assert torch.equal(found, expected)

    def compare(self, outcome: Outcome, result: StepResult) -> None:
        slots, slot_B = self.slots, self.slot_B
        is_done_B = result.num_emitted_B > 0
        self.step = replace(
            self.step,
            tokens_BL=torch.where(is_done_B[:, None], MASK_ID, result.tokens_BL),
            masked_BL=result.masked_BL | is_done_B[:, None],
            step_B=torch.where(is_done_B, 0, result.step_B),
        )
        assert torch.equal(slots.tokens_SL[slot_B], self.step.tokens_BL)
        assert torch.equal(slots.masked_SL[slot_B], self.step.masked_BL)
        assert torch.equal(slots.step_S[slot_B], self.step.step_B)

        expected = (result.tokens_BL, result.num_emitted_B.int(), self.rejected_B.int())
        for found_R, value_B in zip(outcome, expected, strict=True):
            zeros_R = torch.zeros_like(found_R)
            assert torch.equal(found_R, zeros_R.index_copy(0, self.request_B, value_B))

    def _others(self) -> list[Tensor]:
        """Everything of the slots that have no part in the step."""
        other_S = torch.ones(len(self.slots.step_S), dtype=torch.bool)
        other_S[self.slot_B] = False
        values = (getattr(self.slots, field.name) for field in fields(self.slots))
        return [value[other_S] for value in values if isinstance(value, Tensor)]


@given(
    seed=st.integers(0, 2**31),
    num=st.integers(1, 9),
    length=st.sampled_from([1, 2, 4, 6, 8, 16, 32, 60]),
    max_model_len=st.sampled_from([10**9, 90, 50]),
    is_on_grid=st.booleans(),
)
def test_equals_torch_step_after_step(
    seed: int, num: int, length: int, max_model_len: int, is_on_grid: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rule_B = torch.randint(0, len(RULES), (num,), generator=generator)
    step = plain(random_step(seed, num, length), rule_B)
    if is_on_grid:  # sums of entropies and margins meet their bounds but for rounding
        threshold_B = step.params.threshold_B.mul(20).round() / 20
        step = replace(step, params=replace(step.params, threshold_B=threshold_B))
    harness = Harness.over(step, rule_B, seed, max_model_len)
    for _ in range(4):
        candidates = random_candidates(num, length, 12, generator)
        if is_on_grid:
            candidates = replace(
                candidates,
                second_BL=(candidates.second_BL * 20).round() / 20,
                entropy_BL=(candidates.entropy_BL * 10).round() / 20,
            )
        harness.step = replace(harness.step, candidates=candidates)
        harness.check()


@given(
    rule=st.sampled_from(range(len(RULES))),
    rows=st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, INF, -INF, NAN]),
            st.sampled_from([0.0, 0.25, 0.5, NAN]),
            st.sampled_from([0.0, -0.0, 0.1, 0.2, 0.3, INF, NAN]),
        ),
        min_size=1,
        max_size=8,
    ),
    threshold=st.sampled_from([-1.0, 0.0, 0.25, 0.3, 0.6, 1.0, 1000.0, INF]),
    max_steps=st.integers(1, 9),
    width=st.integers(1, 8),
    limit=st.integers(-3, 9),
    stop_id=st.sampled_from([-1, 0, 3]),
)
def test_equals_torch_on_special_values(
    rule: int,
    rows: list[tuple[bool, float, float, float]],
    threshold: float,
    max_steps: int,
    width: int,
    limit: int,
    stop_id: int,
) -> None:
    masked, prob, second, entropy = (
        torch.tensor(column)[None] for column in zip(*rows, strict=True)
    )
    length = len(rows)
    token_BL = torch.arange(length)[None]
    step = Step(
        tokens_BL=token_BL + 100,
        masked_BL=masked,
        step_B=torch.tensor([1]),
        candidates=Candidates(token_BL, prob, second, entropy),
        params=params_of(
            [RULES[rule]],
            threshold=[threshold],
            max_steps=[max_steps],
            block_length=[length],
            width=[min(width, length)],
            limit=[limit],
            stop_ids=[[stop_id, -1]],
        ),
    )
    Harness.over(step, torch.tensor([rule])).check()


@pytest.mark.parametrize("num_accepted", [7, 10])
def test_sum_of_entropies_is_rounded_as_torch_does(num_accepted: int) -> None:
    """Summed in float64, compared in float32: neither alone meets these bounds."""
    step = Step(
        tokens_BL=torch.zeros(1, 11, dtype=torch.int64),
        masked_BL=torch.ones(1, 11, dtype=torch.bool),
        step_B=torch.tensor([0]),
        candidates=replace(
            candidates_of([[5] * 11], [[0.5] * 11]), entropy_BL=torch.full((1, 11), 0.1)
        ),
        params=params_of(
            ["entropy"], threshold=[num_accepted / 10], max_steps=[11], block_length=[11]
        ),
    )
    harness = Harness.over(step, torch.tensor([RULES.index("entropy")]))
    harness.check()
    assert harness.slots.masked_SL[harness.slot_B].sum() == 11 - num_accepted


@given(seed=st.integers(0, 2**31), num=st.integers(1, 5), dtype=st.sampled_from(LOGITS_DTYPES))
def test_logits_give_what_their_statistics_give(seed: int, num: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    rule_B = torch.randint(0, len(RULES), (num,), generator=generator)
    step = plain(random_step(seed, num, 8), rule_B)
    by_logits, by_stats = (Harness.over(step, rule_B, seed) for _ in range(2))
    num_rows = int(by_logits.requests.row_border_R[-1])
    wide_NV = (torch.randn(num_rows, 19, generator=generator) * 3).to(dtype)
    wide_NV[torch.rand(wide_NV.shape, generator=generator) < 0.01] = NAN
    for logits_NV in (wide_NV[:, : MASK_ID + 1], wide_NV[:, 3:]):
        stats = row_stats(logits_NV, MASK_ID)
        found = Denoiser(by_logits.slots).from_logits(logits_NV, by_logits.requests)
        expected = Denoiser(by_stats.slots).from_stats(stats, by_stats.requests)
        for name in Outcome._fields:
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        assert torch.equal(by_logits.slots.tokens_SL, by_stats.slots.tokens_SL)


def test_a_batch_without_canvases() -> None:
    step = plain(random_step(0, 2, 4), torch.zeros(2, dtype=torch.int64))
    harness = Harness.over(step, torch.zeros(2, dtype=torch.int64))
    requests = harness.requests._replace(row_border_R=torch.zeros(4, dtype=torch.int32))
    outcome = Denoiser(harness.slots).from_logits(torch.empty(0, 16), requests)
    assert outcome.tokens_RL.shape == (3, 4)
    assert not any(field.any() for field in outcome)
    assert torch.equal(harness.slots.tokens_SL[harness.slot_B], step.tokens_BL)


def test_logits_outside_of_the_domain_are_refused() -> None:
    step = plain(random_step(0, 2, 4), torch.zeros(2, dtype=torch.int64))
    harness = Harness.over(step, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="is not float32"):
        Denoiser(harness.slots).from_logits(torch.zeros(9, 16).double(), harness.requests)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("threshold_S", torch.zeros(4, dtype=torch.float64)),
        ("step_S", torch.zeros(8, dtype=torch.int64)[::2]),
        ("masked_SL", torch.zeros(4, 4, dtype=torch.bool, device="meta")),
    ],
)
def test_what_would_be_misread_is_refused(name: str, wrong: Tensor) -> None:
    step = plain(random_step(0, 2, 4), torch.zeros(2, dtype=torch.int64))
    harness = Harness.over(step, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=f"{name}: .* must be contiguous"):
        Denoiser(replace(harness.slots, **{name: wrong}))


def test_every_rule_is_a_policy_with_an_even_schedule() -> None:
    assert {POLICIES[name].schedule for name in RULES} == {"even"}
