"""The exact distribution of a block that is held to automata, and its best or drawn text.

    p(x) ~ prod_i p_i(x_i) * [x leads from the start to where the text can still end in time]

Positions of a block are independent for the model, and only the automaton ties them together, so
sums and maxima over all texts are sums and maxima over its states, position by position
(Dang and Ermon, arXiv 2607.07026; the maxima are DINGO's, arXiv 2505.23061). All is in logarithms
and in float64: a forced token may be arbitrarily improbable.

Shape suffixes: K constrained requests, L canvas length, V vocabulary, N states, C classes,
E edges; N, C and E are padded to the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vllm_diffusion.kernels.cpu_posterior import Posteriors
from vllm_diffusion.kernels.dispatch import uses_cpp
from vllm_diffusion.structured.token_dfa import FAR, Automaton

NEVER = -torch.inf


@dataclass(frozen=True)
class Automata:
    """One automaton a request, padded."""

    src_KE: Tensor
    """int64. Padding leads from the state N - 1, which nothing leads to, to itself."""
    class_KE: Tensor
    """int64. C - 1 is the class that holds every token."""
    dst_KE: Tensor
    class_V: tuple[NDArray[np.int32], ...]
    """Each token's class, on the host: of each request."""
    size_KC: Tensor
    """int64 (K, C - 1). Tokens of each class."""
    sample_KC: Tensor
    """int64 (K, C - 1). A token of each class, 0 for none."""
    is_single_KC: Tensor
    """bool. Classes of one token."""
    distance_KN: Tensor
    """int64. Fewest tokens to the end."""
    stop_K: Tensor
    """int64. The class of the tokens that end a text."""
    num_classes: int
    """C."""

    @classmethod
    def stack(cls, automata: Sequence[Automaton], device: torch.device) -> Automata:
        """Padded tensors of K automata over the same vocabulary."""
        num_states = max(a.num_states for a in automata) + 1
        num_edges = max(len(a.src_E) for a in automata)
        num_classes = max(a.num_classes for a in automata) + 1

        def padded(rows: list[Tensor], size: int, value: int) -> Tensor:
            out = torch.full((len(rows), size), value, dtype=torch.int64)
            for row, values in zip(out, rows, strict=True):
                row[: len(values)] = values
            return out.to(device)

        classes = []
        for a in automata:
            class_E = torch.from_numpy(a.class_E)
            classes.append(torch.where(class_E == a.num_classes, num_classes - 1, class_E))
        pad = num_states - 1
        size_KC = padded([torch.from_numpy(a.size_C) for a in automata], num_classes - 1, 0)
        samples = [torch.from_numpy(a.sample_C).clamp(min=0) for a in automata]
        every = torch.zeros(len(automata), 1, dtype=torch.bool, device=device)
        return cls(
            src_KE=padded([torch.from_numpy(a.src_E) for a in automata], num_edges, pad),
            class_KE=padded(classes, num_edges, 0),
            dst_KE=padded([torch.from_numpy(a.dst_E) for a in automata], num_edges, pad),
            class_V=tuple(a.class_V for a in automata),
            size_KC=size_KC,
            sample_KC=padded(samples, num_classes - 1, 0),
            is_single_KC=torch.cat((size_KC == 1, every), dim=1),
            distance_KN=padded([torch.from_numpy(a.distance_N) for a in automata], num_states, FAR),
            stop_K=torch.tensor([a.num_classes - 1 for a in automata], device=device),
            num_classes=num_classes,
        )

    @cached_property
    def class_KV(self) -> Tensor:
        """int64 (K, V), on the device: for requests with a temperature, and made for them alone."""
        stacked = np.stack(self.class_V).astype(np.int64)
        return torch.from_numpy(stacked).to(self.src_KE.device)

    @property
    def num_states(self) -> int:
        return self.distance_KN.shape[1]


def scatter_max(value_KE: Tensor, index_KE: Tensor, size: int) -> Tensor:
    """Largest value of each index, (K, size); -inf where there is none."""
    out = value_KE.new_full((value_KE.shape[0], size), NEVER)
    return out.scatter_reduce(1, index_KE, value_KE, "amax")


def scatter_sum(value_KE: Tensor, index_KE: Tensor, size: int) -> Tensor:
    """Sum of each index, of logarithms, in float64."""
    top = scatter_max(value_KE, index_KE, size)
    top = torch.where(top == NEVER, 0.0, top)
    total = torch.zeros_like(top).scatter_add(
        1, index_KE, (value_KE - top.gather(1, index_KE)).exp()
    )
    return top.double() + total.double().log()


Reduce = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True, slots=True)
class Block:
    """What is known of the canvases."""

    log_p_KLV: Any
    """float32. The model's log-probabilities, or anything that differs from them by a constant
    a position; None where classes are all that is read."""
    fixed_KL: Tensor
    """int64. Tokens that are settled, -1 where there is none."""
    start_K: Tensor
    """int64. State in front of the canvas."""
    end_K: Tensor
    """int64. Positions that exist; what stands behind them is free."""
    slack_K: Tensor
    """int64. Tokens that may still follow."""


def class_scores(block: Block, automata: Automata, reduce: Reduce) -> Tensor:
    """Sums or maxima (K, L, C), float64, of the tokens of each class; of a settled one, its own.

    What stands behind the end of a text counts as well: maxima are of whole canvases. Else a text
    would be the more probable the sooner it ends.
    """
    K, L, V = block.log_p_KLV.shape
    flat = block.log_p_KLV.reshape(K * L, V)
    index = automata.class_KV[:, None].expand(K, L, V).reshape(K * L, V)
    score = reduce(flat, index, automata.num_classes).double().view(K, L, -1)
    class_KL = automata.class_KV.gather(1, block.fixed_KL.clamp(min=0))
    own = torch.full_like(score, NEVER).scatter(2, class_KL[..., None], 0.0)
    score = torch.where((block.fixed_KL >= 0)[..., None], own, score)
    score[..., -1] = reduce(flat, index.new_zeros(()).expand_as(index), 1).double().view(K, L)
    score[..., -1].masked_fill_(block.fixed_KL >= 0, 0.0)
    return score


def exits(block: Block, automata: Automata) -> Tensor:
    """Where a canvas may end, (K, N) as logarithms: the end must be within reach.

    A request whose shortest text is longer than all that it may emit never gets near its end;
    the nearest states are all that can be asked for.
    """
    nearest_K = automata.distance_KN.gather(1, block.start_K[:, None])[:, 0] - block.end_K
    reach_K1 = torch.maximum(block.slack_K, nearest_K)[:, None]
    return torch.where(automata.distance_KN <= reach_K1, 0.0, NEVER).double()


def backward(score_KLC: Tensor, block: Block, automata: Automata, reduce: Reduce) -> Tensor:
    """Sums or maxima (L + 1, K, N) over all ways from each state to an exit."""
    out = [exits(block, automata)]
    for at in reversed(range(score_KLC.shape[1])):
        edge_KE = score_KLC[:, at].gather(1, automata.class_KE) + out[-1].gather(1, automata.dst_KE)
        found = reduce(edge_KE, automata.src_KE, automata.num_states)
        out.append(torch.where((at < block.end_K)[:, None], found, out[-1]))
    return torch.stack(out[::-1])


def class_factors(
    score_KLC: Tensor, to_exit_LKN: Tensor, block: Block, automata: Automata
) -> Tensor:
    """What the automaton makes of each class at each position, (K, L, C) as logarithms.

    The marginal of a token is its own probability times its class's factor. All -inf for a
    request that no text fits; 0 behind a canvas's end.
    """
    at_KN = torch.full_like(to_exit_LKN[0], NEVER).scatter(1, block.start_K[:, None], 0.0)
    total_K1 = to_exit_LKN[0].gather(1, block.start_K[:, None])
    total_K1 = torch.where(total_K1 == NEVER, 0.0, total_K1)
    factors = []
    for at in range(score_KLC.shape[1]):
        from_KE = at_KN.gather(1, automata.src_KE)
        through_KE = from_KE + to_exit_LKN[at + 1].gather(1, automata.dst_KE) - total_K1
        factor_KC = scatter_sum(through_KE, automata.class_KE, automata.num_classes)
        # What every token may stand for adds to each class.
        factor_KC = torch.logaddexp(factor_KC, factor_KC[:, -1:])
        is_in_K1 = (at < block.end_K)[:, None]
        factors.append(torch.where(is_in_K1, factor_KC, 0.0))
        edge_KE = from_KE + score_KLC[:, at].gather(1, automata.class_KE)
        moved_KN = scatter_sum(edge_KE, automata.dst_KE, automata.num_states)
        at_KN = torch.where(is_in_K1, moved_KN, at_KN)
    return torch.stack(factors, dim=1)


def is_forced(factor_KLC: Tensor, block: Block, automata: Automata) -> Tensor:
    """Open positions (K, L) at which one token alone may stand, whatever the model says."""
    is_open_KLC = factor_KLC > NEVER
    is_one_KL = (is_open_KLC.sum(dim=-1) == 1) & (is_open_KLC & automata.is_single_KC[:, None]).any(
        dim=-1
    )
    return is_one_KL & (block.fixed_KL < 0)


def is_behind_end(token_KL: Tensor, automata: Automata) -> Tensor:
    """Positions (K, L) behind the stop token of a text."""
    is_stop_KL = automata.class_KV.gather(1, token_KL) == automata.stop_K[:, None]
    return (is_stop_KL.cumsum(dim=1) - is_stop_KL.long()) > 0


def path(
    log_p_KLV: Tensor,
    to_exit_LKN: Tensor,
    block: Block,
    automata: Automata,
    noise: Callable[[int], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """A text (K, L) from the start to an exit, and the states (K, L) in front of its tokens.

    With maxima in ``to_exit_LKN``, and no noise, it is the most probable one; with sums and
    Gumbel noise it is an exact draw (Gumbel-max, position after position).

    Args:
        log_p_KLV: what ``to_exit_LKN`` was made of.
        noise: float32 (K, V) for a position.
    """
    state_K, tokens, states = block.start_K, [], []
    for at in range(log_p_KLV.shape[1]):
        is_here_KE = automata.src_KE == state_K[:, None]
        next_KE = to_exit_LKN[at + 1].gather(1, automata.dst_KE).masked_fill(~is_here_KE, NEVER)
        next_KC = scatter_max(next_KE, automata.class_KE, automata.num_classes)
        next_KC = torch.maximum(next_KC, next_KC[:, -1:])
        is_in_K1 = (at < block.end_K)[:, None]
        next_KC = torch.where(is_in_K1, next_KC, 0.0)
        score_KV = log_p_KLV[:, at] + next_KC.gather(1, automata.class_KV)
        if noise is not None:
            score_KV = score_KV + noise(at)
        token_K = torch.where(block.fixed_KL[:, at] >= 0, block.fixed_KL[:, at], score_KV.argmax(1))
        tokens.append(token_K)
        states.append(state_K)
        class_K1 = automata.class_KV.gather(1, token_K[:, None])
        is_edge_KE = (automata.class_KE == class_K1) | (
            automata.class_KE == automata.num_classes - 1
        )
        edge_K1 = (is_here_KE & is_edge_KE).long().argmax(1, keepdim=True)
        moved_K = automata.dst_KE.gather(1, edge_K1)[:, 0]
        state_K = torch.where(is_in_K1[:, 0], moved_K, state_K)
    return torch.stack(tokens, dim=1), torch.stack(states, dim=1)


def may_follow(state_KL: Tensor, to_exit_LKN: Tensor, block: Block, automata: Automata) -> Tensor:
    """Tokens (K, L, V) that may stand behind the states of a text, with some exit in reach."""
    is_here_KLE = automata.src_KE[:, None] == state_KL[..., None]
    dst_LKE = automata.dst_KE.expand(state_KL.shape[1], -1, -1)
    is_live_KLE = (to_exit_LKN[1:].gather(2, dst_LKE) > NEVER).transpose(0, 1)
    K, L = state_KL.shape
    found_KLC = torch.zeros(K, L, automata.num_classes, device=state_KL.device)
    class_KLE = automata.class_KE[:, None].expand(K, L, -1)
    found_KLC.scatter_reduce_(2, class_KLE, (is_here_KLE & is_live_KLE).float(), "amax")
    is_any_KL1 = found_KLC[..., -1:] > 0
    class_KLV = automata.class_KV[:, None].expand(K, L, -1)
    return (found_KLC.gather(2, class_KLV) > 0) | is_any_KL1


def summed(block: Block, automata: Automata, *, has_factors: bool) -> tuple[Tensor, Tensor | None]:
    """Sums ``backward``, and ``class_factors`` where asked for: in C++ on the CPU."""
    score_KLC = class_scores(block, automata, scatter_sum)
    if uses_cpp(score_KLC.is_cpu):
        return Posteriors(block, automata).sums(score_KLC, has_factors=has_factors)
    to_exit_LKN = backward(score_KLC, block, automata, scatter_sum)
    if not has_factors:
        return to_exit_LKN, None
    return to_exit_LKN, class_factors(score_KLC, to_exit_LKN, block, automata)


def best_text(block: Block, automata: Automata) -> tuple[Tensor, Tensor]:
    """The most probable text (K, L) and its states: ``path`` with maxima, in C++ on the CPU."""
    score_KLC = class_scores(block, automata, scatter_max)
    if not uses_cpp(score_KLC.is_cpu):
        to_exit_LKN = backward(score_KLC, block, automata, scatter_max)
        return path(block.log_p_KLV, to_exit_LKN, block, automata)
    class_KL, state_KL = Posteriors(block, automata).best(score_KLC)
    class_KL1 = class_KL[..., None]
    is_in_KLV = (automata.class_KV[:, None] == class_KL1) | (class_KL1 == automata.num_classes - 1)
    token_KL = block.log_p_KLV.masked_fill(~is_in_KLV, NEVER).argmax(dim=-1)
    return torch.where(block.fixed_KL >= 0, block.fixed_KL, token_KL), state_KL
