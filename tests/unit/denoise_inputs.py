"""Inputs of denoising steps, by hand and at random.

Shape suffixes: B requests in the step, L canvas length, E stop ids a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vllm_diffusion.denoise.edit import EditParams
from vllm_diffusion.denoise.policies import POLICIES, POLICY_INDEX, StepView
from vllm_diffusion.denoise.rules import Chances, Seeds, SubBlocks
from vllm_diffusion.denoise.sample import Candidates, Cut
from vllm_diffusion.denoise.step import StepParams, StepResult, StepRule, denoise
from vllm_diffusion.sampling.base import SlotCut
from vllm_diffusion.sampling.min_p import MinP
from vllm_diffusion.sampling.ops import CUTS
from vllm_diffusion.sampling.top_k_top_p import TopKTopP
from vllm_diffusion.sampling.top_n_sigma import TopNSigma

POLICY_NAMES = tuple(POLICIES)
RULES = ("seeds", "sub_blocks", "chances", "edits")
"""Of ``Step``."""
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


def candidates_of(token: Sequence[Sequence[int]], prob: Sequence[Sequence[float]]) -> Candidates:
    """Answers whose other measures nobody asks for."""
    prob_BL = torch.tensor(prob, dtype=torch.float32)
    zero_BL = torch.zeros_like(prob_BL)
    return Candidates(torch.tensor(token, dtype=torch.int64), prob_BL, zero_BL, zero_BL)


def cuts_of(
    *,
    sigma: Tensor | None = None,
    min_p: Tensor | None = None,
    top: tuple[Tensor, Tensor] | None = None,
) -> tuple[Cut, ...]:
    """Cuts of draws by what each row asks for; ``top`` is top-k and top-p."""
    said: dict[type[SlotCut], tuple[Tensor, ...] | None] = {
        TopNSigma: None if sigma is None else (sigma,),
        MinP: None if min_p is None else (min_p,),
        TopKTopP: top,
    }
    return tuple(
        Cut(kind.leave, values, torch.ones(len(values[0]), dtype=torch.bool), kind.is_raw)
        for kind in CUTS
        if (values := said[kind]) is not None
    )


def view_of(
    prob: Sequence[float],
    *,
    threshold: float,
    masked: Sequence[bool] | None = None,
    second: Sequence[float] | None = None,
    entropy: Sequence[float] | None = None,
    share: float | None = None,
    uniform: Sequence[float] | None = None,
) -> StepView:
    """What a policy sees of one request."""
    num = len(prob)
    return StepView(
        masked_BL=torch.tensor([masked if masked is not None else [True] * num]),
        prob_BL=torch.tensor([prob]),
        second_BL=torch.tensor([second if second is not None else [0.0] * num]),
        entropy_BL=torch.tensor([entropy if entropy is not None else [0.0] * num]),
        threshold_B=torch.tensor([threshold]),
        share_B=None if share is None else torch.tensor([share], dtype=torch.float64),
        uniform_BL=None if uniform is None else torch.tensor([uniform]),
    )


def rows_of(value: Any, index_B: Tensor) -> Any:
    """``value`` of some of the requests: a tensor, a record of tensors or nothing at all."""
    if value is None or isinstance(value, Tensor):
        return None if value is None else value[index_B]
    assert is_dataclass(value)
    return type(value)(**{f.name: rows_of(getattr(value, f.name), index_B) for f in fields(value)})


@dataclass(frozen=True)
class Step:
    """All arguments of ``denoise``."""

    tokens_BL: Tensor
    masked_BL: Tensor
    step_B: Tensor
    candidates: Candidates
    params: StepParams
    seeds: Seeds | None = None
    sub_blocks: SubBlocks | None = None
    chances: Chances | None = None
    edits: EditParams | None = None

    @property
    def rules(self) -> list[StepRule]:
        """Those that somebody asks for, in their order."""
        every = (self.seeds, self.sub_blocks, self.chances, self.edits)
        return [rule for rule in every if rule is not None]

    def run(self) -> StepResult:
        return denoise(
            self.tokens_BL,
            self.masked_BL,
            self.step_B,
            self.candidates,
            self.params,
            self.rules,
        )

    def of(self, index_B: Tensor) -> Step:
        """The step of some of the requests, in the order of ``index_B``."""
        names = [POLICY_NAMES[i] for i in self.params.policy_B[index_B].tolist()]
        params = {
            field.name: rows_of(getattr(self.params, field.name), index_B)
            for field in fields(self.params)
            if field.name != "policies"
        }
        return Step(
            self.tokens_BL[index_B],
            self.masked_BL[index_B],
            self.step_B[index_B],
            rows_of(self.candidates, index_B),
            StepParams(policies=tuple(dict.fromkeys(names)), **params),
            **{name: rows_of(getattr(self, name), index_B) for name in RULES},
        )

    def alone(self, b: int) -> Step:
        """The step of request ``b`` alone, where nobody asks for what it does not ask for."""
        step = self.of(torch.tensor([b]))
        params = step.params
        if step.edits is not None and step.edits.threshold_B.isinf().all():
            step = replace(step, edits=None)
        whole_B = params.block_length_B
        if step.sub_blocks is not None and bool(step.sub_blocks.length_B == whole_B):
            step = replace(step, sub_blocks=None)
        if step.seeds is not None and bool(step.seeds.num_rows_B >= params.width_B):
            step = replace(step, seeds=None)
        if params.policies != ("origin",):
            step = replace(step, chances=None)
        return step

    def after(self, result: StepResult, candidates: Candidates) -> Step:
        """The next step on the canvases that this one left."""
        return replace(
            self,
            tokens_BL=result.tokens_BL,
            masked_BL=result.masked_BL,
            step_B=result.step_B,
            candidates=candidates,
            edits=None
            if self.edits is None or result.post_step_B is None
            else replace(self.edits, post_step_B=result.post_step_B),
        )

    def fresh(self) -> Step:
        """The same requests with wholly masked canvases."""
        return replace(
            self,
            masked_BL=torch.ones_like(self.masked_BL),
            step_B=torch.zeros_like(self.step_B),
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


def random_optional(
    block_length_B: Tensor, width_B: Tensor, length: int, generator: torch.Generator
) -> dict[str, Any]:
    """The rarer rules: some requests ask for each, some do not."""
    num = len(block_length_B)

    def chance(share: float) -> Tensor:
        return torch.rand(num, generator=generator) < share

    # The greatest common divisor with anything divides the block.
    piece_B = torch.gcd(block_length_B, torch.randint(1, length + 1, (num,), generator=generator))
    edit_threshold_B = torch.rand(num, generator=generator)
    return {
        "seeds": Seeds(torch.where(chance(0.2), 1, length), width_B),
        "sub_blocks": SubBlocks(torch.where(chance(0.5), piece_B, block_length_B)),
        "edits": EditParams(
            threshold_B=edit_threshold_B.masked_fill(chance(0.5), torch.inf),
            max_post_steps_B=torch.randint(0, 4, (num,), generator=generator),
            post_step_B=torch.randint(0, 3, (num,), generator=generator),
        ),
    }


def random_step(
    seed: int, num: int, length: int, vocab_size: int = 12, *, plain: bool = False
) -> Step:
    """A batch of requests that differ in everything, in the middle of their blocks.

    A ``plain`` batch has no seed steps, no sub-blocks and no edits.
    """
    generator = torch.Generator().manual_seed(seed)

    def randint(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    policy_B = randint(0, len(POLICY_NAMES), num)
    divisors = ints([n for n in range(1, length + 1) if length % n == 0])
    block_length_B = divisors[randint(0, len(divisors), num)]
    width_B = (torch.rand(num, generator=generator) * block_length_B).long() + 1
    masked_BL = torch.rand(num, length, generator=generator) < 0.6
    stop_BE = randint(0, vocab_size, num, 3)
    is_stop_BE = torch.rand(num, 3, generator=generator) < 0.2
    optional = {} if plain else random_optional(block_length_B, width_B, length, generator)
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
            stop_ids_BE=torch.where(is_stop_BE, stop_BE, NO_STOP),
        ),
        chances=Chances(torch.rand(num, length, generator=generator)),
        **optional,
    )
