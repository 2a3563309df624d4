"""Inputs of denoising steps, by hand and at random.

Shape suffixes: B requests in the step, L canvas length, E stop ids a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from vllm_diffusion.denoise.policies import POLICIES, POLICY_INDEX, StepView
from vllm_diffusion.denoise.sample import Candidates
from vllm_diffusion.denoise.step import StepParams, StepResult, denoise

POLICY_NAMES = tuple(POLICIES)
NO_STOP = -1


def ints(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def params_of(
    policies: Sequence[str],
    *,
    threshold: Sequence[float],
    max_steps: Sequence[int],
    block_length: Sequence[int],
    width: Sequence[int] | None = None,
    limit: Sequence[int] | None = None,
    stop_ids: Sequence[Sequence[int]] = (),
) -> StepParams:
    """Step parameters, one entry a request; whole blocks without a limit unless said."""
    num = len(policies)
    return StepParams(
        policies=tuple(dict.fromkeys(policies)),
        policy_B=ints([POLICY_INDEX[name] for name in policies]),
        threshold_B=torch.tensor(threshold, dtype=torch.float32),
        max_steps_B=ints(max_steps),
        block_length_B=ints(block_length),
        width_B=ints(width if width is not None else block_length),
        limit_B=ints(limit if limit is not None else [10**6] * num),
        stop_ids_BE=torch.tensor(stop_ids or [[NO_STOP]] * num, dtype=torch.int64),
    )


def view_of(
    prob: Sequence[float],
    *,
    threshold: float,
    masked: Sequence[bool] | None = None,
    second: Sequence[float] | None = None,
    entropy: Sequence[float] | None = None,
) -> StepView:
    """What a policy sees of one request."""
    num = len(prob)
    return StepView(
        masked_BL=torch.tensor([masked if masked is not None else [True] * num]),
        prob_BL=torch.tensor([prob]),
        second_BL=torch.tensor([second if second is not None else [0.0] * num]),
        entropy_BL=torch.tensor([entropy if entropy is not None else [0.0] * num]),
        threshold_B=torch.tensor([threshold]),
    )


@dataclass(frozen=True)
class Step:
    """All arguments of ``denoise``."""

    tokens_BL: Tensor
    masked_BL: Tensor
    step_B: Tensor
    candidates: Candidates
    params: StepParams

    def run(self) -> StepResult:
        return denoise(self.tokens_BL, self.masked_BL, self.step_B, self.candidates, self.params)

    def of(self, index_B: Tensor) -> Step:
        """The step of some of the requests, in the order of ``index_B``."""
        names = [POLICY_NAMES[i] for i in self.params.policy_B[index_B].tolist()]
        tensors = {
            field.name: getattr(self.params, field.name)[index_B]
            for field in fields(self.params)
            if field.name != "policies"
        }
        return Step(
            self.tokens_BL[index_B],
            self.masked_BL[index_B],
            self.step_B[index_B],
            Candidates(
                **{f.name: getattr(self.candidates, f.name)[index_B] for f in fields(Candidates)}
            ),
            StepParams(policies=tuple(dict.fromkeys(names)), **tensors),
        )

    def after(self, result: StepResult, candidates: Candidates) -> Step:
        """The next step on the canvases that this one left."""
        return replace(
            self,
            tokens_BL=result.tokens_BL,
            masked_BL=result.masked_BL,
            step_B=self.step_B + 1,
            candidates=candidates,
        )


def random_candidates(
    num: int, length: int, vocab_size: int, generator: torch.Generator
) -> Candidates:
    """Answers with ties: probabilities on a grid, some rows without a softmax (NaN)."""
    shape = (num, length)
    prob_BL = torch.randint(1, 21, shape, generator=generator) / 20
    second_BL = torch.minimum(1 - prob_BL, prob_BL) * torch.rand(shape, generator=generator)
    entropy_BL = -prob_BL.log() + (1 - prob_BL) * torch.rand(shape, generator=generator)
    broken_BL = torch.rand(shape, generator=generator) < 0.03
    return Candidates(
        token_BL=torch.randint(0, vocab_size, shape, generator=generator),
        prob_BL=prob_BL.masked_fill(broken_BL, torch.nan),
        second_BL=second_BL.masked_fill(broken_BL, torch.nan),
        entropy_BL=entropy_BL.masked_fill(broken_BL, torch.nan),
    )


def random_step(seed: int, num: int, length: int, vocab_size: int = 12) -> Step:
    """A batch of requests that differ in everything, in the middle of their blocks."""
    generator = torch.Generator().manual_seed(seed)

    def randint(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    policy_B = randint(0, len(POLICY_NAMES), num)
    divisors = ints([n for n in range(1, length + 1) if length % n == 0])
    block_length_B = divisors[randint(0, len(divisors), num)]
    width_B = (torch.rand(num, generator=generator) * block_length_B).long() + 1
    masked_BL = torch.rand(num, length, generator=generator) < 0.6
    stop_BE = randint(0, vocab_size, num, 3)
    return Step(
        tokens_BL=randint(0, vocab_size, num, length),
        masked_BL=masked_BL,
        step_B=randint(0, length, num),
        candidates=random_candidates(num, length, vocab_size, generator),
        params=StepParams(
            policies=tuple(POLICY_NAMES[i] for i in policy_B.unique().tolist()),
            policy_B=policy_B,
            threshold_B=torch.rand(num, generator=generator),
            max_steps_B=randint(1, length + 3, num),
            block_length_B=block_length_B,
            width_B=width_B,
            limit_B=randint(1, 2 * length, num),
            stop_ids_BE=torch.where(
                torch.rand(num, 3, generator=generator) < 0.8, torch.tensor(NO_STOP), stop_BE
            ),
        ),
    )
