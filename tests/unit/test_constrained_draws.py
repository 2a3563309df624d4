"""A step's drawn texts against the same drawn token by token, and alone against in company."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unit.denoise_inputs import cuts_of
from tests.unit.structured_inputs import LIMITS, dfa_of, vocabulary_of
from vllm_diffusion.denoise.random import gumbel
from vllm_diffusion.denoise.sample import Draws
from vllm_diffusion.kernels.dispatch import forced
from vllm_diffusion.structured.block_text import TRUSTED
from vllm_diffusion.structured.dfa_matcher import TokenDfaMatcher, TokenDfaTables
from vllm_diffusion.structured.posterior import Automata, Block, may_follow, path, summed
from vllm_diffusion.structured.token_dfa import automaton_of, over_tokens
from vllm_diffusion.worker.constrained import Constraints, Texts
from vllm_diffusion.worker.constrained_draws import Drawing

SPELLED = [b"", b"", b"a", b"b", b"ab", b"1", b"2", b"12", b"a1", b"ba"]
STOP, MASK, VOCAB, LENGTH = 1, 0, len(SPELLED), 5
REGEXES = ["(a|b){0,6}1", "ab(1|2){1,4}", "(ab)*12?", "[ab12]{2,9}"]
CUT = 1e4


def starts() -> list[TokenDfaMatcher]:
    vocabulary = vocabulary_of(SPELLED, never=[MASK, STOP])
    automata = [automaton_of(over_tokens(dfa_of(r), vocabulary, LIMITS), (STOP,)) for r in REGEXES]
    return [TokenDfaMatcher(TokenDfaTables(automaton, 1)) for automaton in automata]


@dataclass
class Step:
    """One request a regex, each with a row a position."""

    logits: Tensor
    draws: Draws
    is_drawn: list[bool]
    num_left: list[int]

    @classmethod
    def of(cls, seed: int, *, is_cut: bool, is_drawn: list[bool]) -> Step:
        generator = torch.Generator().manual_seed(seed)
        count = len(REGEXES)
        rows = np.array(
            [k * LENGTH + i for k in range(count) for i in range(LENGTH) if is_drawn[k]]
        )
        row_N = torch.from_numpy(rows)
        ones = torch.ones(len(rows))
        return cls(
            torch.randn(count * LENGTH, VOCAB, generator=generator) * 2,
            Draws(
                row_N=row_N,
                temperature_N=0.5 + row_N // LENGTH * 0.4,
                seed_N=row_N // LENGTH + 10 * seed,
                position_N=row_N % LENGTH + 100,
                step_N=0 * row_N,
                cuts=cuts_of(sigma=ones * 1.7, top=(torch.full((len(rows),), 3), ones * 0.9))
                if is_cut
                else (),
                rows=rows,
            ),
            is_drawn,
            [9, 9, 4, 9],
        )

    def alone(self, k: int) -> Step:
        """The request ``k`` in rows of its own."""
        here = torch.from_numpy(np.flatnonzero(self.draws.rows // LENGTH == k))
        draws = self.draws.at(here)
        draws.row_N.sub_(k * LENGTH)
        object.__setattr__(draws, "rows", draws.row_N.numpy())
        logits = self.logits[k * LENGTH : (k + 1) * LENGTH].clone()
        return Step(logits, draws, [self.is_drawn[k]], [self.num_left[k]])

    def texts(self, matchers: list[TokenDfaMatcher]) -> Texts:
        count = len(matchers)
        fields = {
            "num_rows_B": [LENGTH] * count,
            "row_start_B": [k * LENGTH for k in range(count)],
            "width_B": [LENGTH] * count,
        }
        canvases: Any = SimpleNamespace(**{key: np.array(value) for key, value in fields.items()})
        drawing = Drawing(self.draws, lambda logits: None, MASK) if any(self.is_drawn) else None
        return Constraints(MASK).texts(
            self.logits.clone(),
            canvases,
            list(range(count)),
            matchers,
            self.num_left,
            torch.full((count, LENGTH), MASK),
            torch.ones(count, LENGTH, dtype=torch.bool),
            drawing,
        )


def tempered(rows: Tensor, draws: Draws, at: Tensor) -> Tensor:
    kept = draws.at(at).temper(rows)
    scaled = rows / draws.temperature_N[at][:, None]
    return torch.where(kept == -torch.inf, scaled - CUT, kept)


def by_token(step: Step, matchers: list[TokenDfaMatcher]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (K, L), their probabilities, and which positions wait."""
    count, draws = len(matchers), step.draws
    automata = Automata.stack([m.tables.automaton for m in matchers], torch.device("cpu"))
    rows = step.logits.clone()
    rows[:, MASK] = -torch.inf
    every = torch.arange(count * LENGTH)
    log_p = rows.log_softmax(-1).view(count, LENGTH, -1)
    end = torch.tensor(step.num_left).clamp(max=LENGTH)
    rest = (
        torch.full((count, LENGTH), -1),
        torch.zeros(count, dtype=torch.int64),
        end,
        torch.tensor(step.num_left) - end,
    )
    drawn = Block(tempered(rows, draws, every).view(count, LENGTH, -1), *rest)

    def noise(at: int) -> Tensor:
        here = draws.at(every.view(count, LENGTH)[:, at])
        return gumbel(here.seed_N, here.position_N, here.step_N, VOCAB)

    token, state = path(
        drawn.log_p_KLV, summed(drawn, automata, has_factors=False)[0], drawn, automata, noise
    )
    block = Block(log_p, *rest)
    to_exit, factor = summed(block, automata, has_factors=True)
    assert factor is not None
    follows = may_follow(state, to_exit, block, automata)
    doubted = log_p.exp().masked_fill(~follows, 0).sum(-1) < TRUSTED
    doubted &= torch.arange(LENGTH) < end[:, None]
    waits = torch.zeros(count, LENGTH, dtype=torch.bool)
    marginal = log_p + factor.gather(2, automata.class_KV[:, None].expand(log_p.shape))
    prob = marginal.gather(2, token[..., None])[..., 0].exp()
    is_one = (factor > -torch.inf).sum(-1) == 1
    for k in range(count):
        behind = doubted[k].long().cumsum(0) > 0
        for at in doubted[k].nonzero()[:1, 0].tolist():
            if is_one[k, at]:  # forced, as far as this test's regexes go
                continue
            behind[at] = False
            n = torch.tensor([k * LENGTH + at])
            local = rows[n].masked_fill(~follows[k, at], -torch.inf)
            noisy = tempered(local, draws, n)[0] + noise(at)[k]
            token[k, at] = noisy.masked_fill(~follows[k, at], -torch.inf).argmax()
            prob[k, at] = local.softmax(-1)[0, token[k, at]]
        waits[k] = behind
    return token, prob, waits


@pytest.mark.parametrize("implementation", ["torch", "cpp"])
@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_drawn_texts_are_those_drawn_token_by_token(
    seed: int, is_cut: bool, implementation: str
) -> None:
    matchers = starts()
    step = Step.of(seed, is_cut=is_cut, is_drawn=[True] * len(REGEXES))
    wanted, prob, waits = by_token(step, matchers)
    with forced(implementation):
        found = step.texts(matchers)
    sure = found.is_chosen_KL & ~waits
    assert sure.sum() >= len(REGEXES)
    assert (found.token_KL[sure] == wanted[sure]).all()
    assert torch.allclose(found.prob_KL[sure], prob[sure].float(), atol=1e-5)
    assert (found.is_behind_KL | ~waits | found.is_forced_KL | ~found.is_chosen_KL).all()


@pytest.mark.parametrize("implementation", ["torch", "cpp"])
@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_request_alone_gets_the_text_that_it_gets_in_company(
    seed: int, is_cut: bool, implementation: str
) -> None:
    """Greedy ones beside drawn ones too."""
    matchers = starts()
    step = Step.of(seed, is_cut=is_cut, is_drawn=[True, False, True, False])
    with forced(implementation):
        together = step.texts(matchers)
        for k, matcher in enumerate(matchers):
            alone = step.alone(k).texts([matcher])
            for name in ("token_KL", "prob_KL", "second_KL", "is_chosen_KL", "is_behind_KL"):
                one, of_all = getattr(alone, name)[0], getattr(together, name)[k]
                assert torch.allclose(one.double(), of_all.double(), atol=1e-6), (k, name)
