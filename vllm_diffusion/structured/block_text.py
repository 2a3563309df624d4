"""One text of a block under automata, and how sure the model is of it, from class statistics alone.

The candidates are the most probable text that the automaton allows, and how sure the model is of a
token is the token's marginal under all such texts (Dang and Ermon, arXiv 2607.07026). Where most of
what the model expects at a position cannot follow, it has another text in mind, and what it says of
the positions behind is about that one: they wait, and the position itself gets the model's own
choice among what may follow.

Shape suffixes: K requests, L canvas length, C classes, N states, E edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vllm_diffusion.kernels.cpu_posterior import Posteriors
from vllm_diffusion.kernels.dispatch import uses_cpp
from vllm_diffusion.structured.posterior import (
    NEVER,
    Automata,
    Block,
    backward,
    class_factors,
    is_forced,
    scatter_max,
    scatter_sum,
)

PART = 1 << 18
"""Entries of a table of edges by position that are made at a time."""
TRUSTED = 0.5
"""Share of what the model expects at a position that must be able to follow."""


@dataclass(frozen=True, slots=True)
class Scores:
    """(K, L, C) of the model's distributions, without the class of every token: ``ClassStats``."""

    total: Tensor
    weighted: Tensor
    first: Tensor
    second: Tensor
    token: Tensor


@dataclass(frozen=True, slots=True)
class BlockText:
    """(K, L) each."""

    token: Tensor
    prob: Tensor
    """float32, like the next two: of the token, of the runner-up, and nats."""
    second: Tensor
    entropy: Tensor
    has_text: Tensor
    """bool (K,). Some text meets the automaton."""
    is_forced: Tensor
    """bool. No other token may stand there."""
    is_behind: Tensor
    """bool. Behind the text's end, or behind a position at which the model is overruled."""


class Drawing(Protocol):
    """Draws texts in the place of the most probable ones: ``worker.constrained_draws``."""

    is_drawn_K: Tensor
    """bool. Requests whose texts are drawn."""
    token_KLC: Tensor
    """int64. The token of each class that is drawn."""

    def text(self, block: Block, class_KL: Tensor, automata: Automata) -> tuple[Tensor, Tensor]:
        """Classes (K, L) of drawn texts, and the states in front of them."""
        ...

    def overrule(self, is_first_KL: Tensor, follows_KLC: Tensor) -> Tensor:
        """Classes (K, L); where the model is overruled, drawn of those that may follow."""
        ...

    def log_p(self, token_KL: Tensor) -> Tensor:
        """The model's own log-probabilities (K, L) of drawn tokens."""
        ...


def block_text(
    scores: Scores,
    block: Block,
    class_KL: Tensor,
    automata: Automata,
    trusted: float,
    drawing: Drawing | None = None,
) -> BlockText:
    """Choose a text.

    Args:
        scores: of open positions.
        block: ``log_p_KLV`` is not read.
        class_KL: int64, classes of settled tokens.
        automata: K of them.
        trusted: see ``TRUSTED``; 0 for the most probable text whatever the model expects.
        drawing: of the requests with a temperature.
    """
    is_fixed_KL1 = (block.fixed_KL >= 0)[..., None]
    sum_KLC = with_settled(scores.total, block, class_KL, is_sum=True)
    max_KLC = with_settled(scores.first.double(), block, class_KL, is_sum=False)
    uses_library = uses_cpp(sum_KLC.is_cpu)
    if uses_library:
        to_exit, factor_KLC = Posteriors(block, automata).sums(sum_KLC, has_factors=True)
        best_KL, state_KL = Posteriors(block, automata).best(max_KLC)
        assert factor_KLC is not None
    else:
        to_exit = backward(sum_KLC, block, automata, scatter_sum)
        factor_KLC = class_factors(sum_KLC, to_exit, block, automata)
        best_KL, state_KL = best_path(
            max_KLC, backward(max_KLC, block, automata, scatter_max), block, automata
        )
    has_text_K = to_exit[0].gather(1, block.start_K[:, None])[:, 0] > NEVER
    # Behind a text's end every token may stand: the model's own.
    every = automata.num_classes - 1
    top_KL = scores.first.argmax(dim=-1)
    best_KL = torch.where(best_KL == every, top_KL, best_KL)
    if drawing is not None:
        is_drawn_K1 = drawing.is_drawn_K[:, None]
        drawn_KL, drawn_state_KL = drawing.text(block, class_KL, automata)
        best_KL = torch.where(is_drawn_K1, drawn_KL, best_KL)
        state_KL = torch.where(is_drawn_K1, drawn_state_KL, state_KL)
    follows_KLC = may_follow_classes(state_KL, to_exit, automata)
    mass_KL = torch.where(follows_KLC, scores.total, NEVER).logsumexp(dim=-1)
    position_L = torch.arange(class_KL.shape[1], device=class_KL.device)
    is_open_KL = (block.fixed_KL < 0) & (position_L < block.end_K[:, None])
    is_doubted_KL = (mass_KL.exp() < trusted) & is_open_KL
    num_doubted_KL = is_doubted_KL.cumsum(dim=1)
    factor = factor_KLC[..., :-1]
    forced_KL = is_forced(factor_KLC, block, automata) & is_open_KL
    is_first_KL = is_doubted_KL & (num_doubted_KL == 1) & ~forced_KL
    local = torch.where(follows_KLC, -mass_KL[..., None], NEVER)
    weight_KLC = torch.where(is_first_KL[..., None], local, factor)
    first_KLC = scores.first + weight_KLC
    two = torch.cat((first_KLC, scores.second + weight_KLC), dim=-1).topk(2, dim=-1).values
    local_KL = first_KLC.argmax(dim=-1)
    if drawing is not None:
        drawn_KL = drawing.overrule(is_first_KL, follows_KLC)
        local_KL = torch.where(is_drawn_K1, drawn_KL, local_KL)
    chosen_KL1 = torch.where(is_first_KL, local_KL, best_KL)[..., None]
    token_KL = scores.token.gather(2, chosen_KL1)[..., 0]
    log_prob_KL = first_KLC.gather(2, chosen_KL1)[..., 0]
    if drawing is not None:
        drawn_KL = drawing.token_KLC.gather(2, chosen_KL1)[..., 0]
        token_KL = torch.where(is_drawn_K1, drawn_KL, token_KL)
        own_KL = drawing.log_p(token_KL) + weight_KLC.gather(2, chosen_KL1)[..., 0]
        log_prob_KL = torch.where(is_drawn_K1, own_KL, log_prob_KL)
    is_in_KLC = (weight_KLC > NEVER) & (scores.total > NEVER)
    finite = torch.where(is_in_KLC, weight_KLC, 0.0)
    nats_KLC = -finite.exp() * (scores.weighted + finite * scores.total.exp())
    behind_KL = is_behind(best_KL, automata, block) | ((num_doubted_KL > 0) & ~is_first_KL)
    return BlockText(
        token=torch.where(is_fixed_KL1[..., 0], block.fixed_KL, token_KL),
        prob=log_prob_KL.exp().float().clamp(max=1.0),
        second=two[..., 1].exp().float(),
        entropy=torch.where(is_in_KLC, nats_KLC, 0.0).sum(dim=-1).float(),
        has_text=has_text_K,
        is_forced=forced_KL,
        is_behind=behind_KL & ~forced_KL,
    )


def with_settled(score_KLC: Tensor, block: Block, class_KL: Tensor, *, is_sum: bool) -> Tensor:
    """Sums or maxima (K, L, C) with those of settled positions, and of the class of every token."""
    own_KLC = torch.full_like(score_KLC, NEVER).scatter(2, class_KL[..., None], 0.0)
    score_KLC = torch.where((block.fixed_KL >= 0)[..., None], own_KLC, score_KLC)
    every = score_KLC.logsumexp(dim=-1) if is_sum else score_KLC.amax(dim=-1)
    return torch.cat((score_KLC, every[..., None]), dim=-1)


def is_behind(class_KL: Tensor, automata: Automata, block: Block) -> Tensor:
    """Positions behind the stop token of a text."""
    is_stop_KL = (class_KL == automata.stop_K[:, None]) & (block.fixed_KL < 0)
    return (is_stop_KL.cumsum(dim=1) - is_stop_KL.long()) > 0


def may_follow_classes(state_KL: Tensor, to_exit_LKN: Tensor, automata: Automata) -> Tensor:
    """Classes (K, L, C - 1) that may stand behind the states of a text, with an exit in reach."""
    num_requests, length = state_KL.shape
    out = torch.zeros(
        num_requests, length, automata.num_classes, dtype=torch.int8, device=state_KL.device
    )
    # So many positions at a time that K x L x E stays small.
    part = max(PART // max(automata.src_KE.numel(), 1), 1)
    for at in range(0, length, part):
        here = slice(at, at + part)
        is_taken_KLE = automata.src_KE[:, None] == state_KL[:, here, None]
        dst_LKE = automata.dst_KE.expand(is_taken_KLE.shape[1], -1, -1)
        is_live_LKE = to_exit_LKN[at + 1 : at + 1 + part].gather(2, dst_LKE) > NEVER
        is_taken_KLE &= is_live_LKE.transpose(0, 1)
        index_KLE = automata.class_KE[:, None].expand_as(is_taken_KLE)
        out[:, here].scatter_reduce_(2, index_KLE, is_taken_KLE.to(torch.int8), "amax")
    out = out > 0
    return out[..., :-1] | out[..., -1:]


def best_path(
    score_KLC: Tensor, to_exit_LKN: Tensor, block: Block, automata: Automata
) -> tuple[Tensor, Tensor]:
    """Classes (K, L) of the most probable text, and the states in front of its tokens."""
    state_K, classes, states = block.start_K, [], []
    every = automata.num_classes - 1
    for at in range(score_KLC.shape[1]):
        is_here_KE = automata.src_KE == state_K[:, None]
        next_KE = to_exit_LKN[at + 1].gather(1, automata.dst_KE).masked_fill(~is_here_KE, NEVER)
        next_KC = scatter_max(next_KE, automata.class_KE, automata.num_classes)
        next_KC = torch.maximum(next_KC, next_KC[:, -1:])
        is_in_K1 = (at < block.end_K)[:, None]
        next_KC = torch.where(is_in_K1, next_KC, 0.0)
        class_K1 = (score_KLC[:, at] + next_KC)[:, :every].argmax(dim=1, keepdim=True)
        is_edge_KE = (automata.class_KE == class_K1) | (automata.class_KE == every)
        edge_K1 = (is_here_KE & is_edge_KE).long().argmax(dim=1, keepdim=True)
        classes.append(class_K1[:, 0])
        states.append(state_K)
        state_K = torch.where(is_in_K1[:, 0], automata.dst_KE.gather(1, edge_K1)[:, 0], state_K)
    return torch.stack(classes, dim=1), torch.stack(states, dim=1)
