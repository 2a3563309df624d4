"""The denoising step's candidates where automata hold requests to regular languages.

Rows of logits are read by class of token (``structured.class_stats``), and the text of a block is
chosen among classes (``structured.block_text``). Nothing else is as wide as the vocabulary.
Requests with a temperature draw their texts among classes as well (``constrained_draws``).

Shape suffixes: K constrained requests of the step, L canvas length, N rows of logits, C classes,
P rows of open positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d

from vllm_diffusion.kernels.cpu_constrained import Job, block_texts
from vllm_diffusion.kernels.dispatch import uses_cpp
from vllm_diffusion.structured import block_text
from vllm_diffusion.structured.block_text import Scores
from vllm_diffusion.structured.class_stats import class_stats
from vllm_diffusion.structured.posterior import NEVER, Automata, Block

if TYPE_CHECKING:
    from vllm_diffusion.batch.canvases import Canvases
    from vllm_diffusion.denoise.sample import Candidates
    from vllm_diffusion.structured.dfa_matcher import TokenDfaMatcher
    from vllm_diffusion.structured.token_dfa import Automaton
    from vllm_diffusion.worker.constrained_draws import Drawing

UNKNOWN = 1e4
"""Nats; the entropy of no vocabulary."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What the automata make of the step."""

    index_K: Tensor
    """int64. Canvases of the step."""
    token_KL: Tensor
    """int64. One text a canvas."""
    prob_KL: Tensor
    """float32. Marginals of its tokens."""
    second_KL: Tensor
    """float32, as the entropy."""
    entropy_KL: Tensor
    is_chosen_KL: Tensor
    """bool. Positions that the automaton has a say in."""
    is_forced_KL: Tensor
    """bool. Those of them at which no other token may stand."""
    is_behind_KL: Tensor
    """bool. Open positions that wait: behind the text's end, or where it is not to be trusted."""

    def where(self, is_own_K: Tensor, others: Texts) -> Texts:
        """The others' where it is not said that these are to be taken; of the same canvases."""
        is_own_K1 = is_own_K[:, None]
        return Texts(
            self.index_K,
            *(
                torch.where(is_own_K1, getattr(self, one.name), getattr(others, one.name))
                for one in fields(self)[1:]
            ),
        )

    def fill(self, tokens_BL: Tensor, masked_BL: Tensor) -> tuple[Tensor, Tensor]:
        """The canvases with what is forced: no step of the model is spent on it."""
        index_K = self.index_K
        tokens_KL = torch.where(self.is_forced_KL, self.token_KL, tokens_BL[index_K])
        masked_KL = masked_BL[index_K] & ~self.is_forced_KL
        return (
            tokens_BL.index_copy(0, index_K, tokens_KL),
            masked_BL.index_copy(0, index_K, masked_KL),
        )

    def over(self, answer: Candidates) -> Candidates:
        """The candidates with these texts in the place of each position's own.

        Models are sure of what stands behind the end of a text, and steps would be spent on it. It
        counts as unknown, and so do positions that wait.
        """
        index_K, is_behind_KL = self.index_K, self.is_behind_KL

        def put(own_BL: Tensor, new_KL: Tensor, waiting: float) -> Tensor:
            own_KL = torch.where(self.is_chosen_KL, new_KL, own_BL[index_K])
            return own_BL.index_copy(0, index_K, own_KL.masked_fill(is_behind_KL, waiting))

        token_KL = torch.where(self.is_chosen_KL, self.token_KL, answer.token_BL[index_K])
        return replace(
            answer,
            token_BL=answer.token_BL.index_copy(0, index_K, token_KL),
            prob_BL=put(answer.prob_BL, self.prob_KL, 0.0),
            second_BL=put(answer.second_BL, self.second_KL, 0.0),
            entropy_BL=put(answer.entropy_BL, self.entropy_KL, UNKNOWN),
        )


class Constraints:
    """Makes the texts of a step; keeps the last step's automata on the device."""

    def __init__(self, mask_id: int) -> None:
        self.mask_id = mask_id
        # Held, not named by their addresses, which others get once these are gone.
        self._stacked_of: tuple[Automaton, ...] = ()
        self._automata: Automata | None = None

    def stacked(self, starts: Sequence[TokenDfaMatcher], device: torch.device) -> Automata:
        """The automata of a step's requests."""
        automata = tuple(start.tables.automaton for start in starts)
        if self._automata is None or automata != self._stacked_of:
            self._automata = Automata.stack(automata, device)
            self._stacked_of = automata
        return self._automata

    def texts(
        self,
        logits_NV: Tensor,
        canvases: Canvases,
        index: Sequence[int],
        starts: Sequence[TokenDfaMatcher],
        num_left: Sequence[int],
        tokens_BL: Tensor,
        masked_BL: Tensor,
        drawing: Drawing | None = None,
    ) -> Texts:
        """Choose texts; the logits stay as they are, but for what ``drawing`` masks.

        Args:
            logits_NV: of the step.
            canvases: of the step.
            index: the constrained ones, K of them.
            starts: where their texts stand in front of the canvas.
            num_left: tokens that each request may still emit, from its canvas's first position.
            tokens_BL: int64 (B, L).
            masked_BL: bool (B, L).
            drawing: of the step's requests with a temperature.
        """
        arguments = (logits_NV, canvases, index, starts, num_left, tokens_BL, masked_BL)
        if not uses_cpp(logits_NV.is_cpu):
            return self._texts_torch(*arguments, drawing)
        greedy = self._texts_cpp(*arguments)
        if drawing is None:
            return greedy
        # A greedy text is made in C++ whatever company it has, so that it is always the same.
        return self._texts_torch(*arguments, drawing).where(drawing.is_drawn_K, greedy)

    def _texts_torch(
        self,
        logits_NV: Tensor,
        canvases: Canvases,
        index: Sequence[int],
        starts: Sequence[TokenDfaMatcher],
        num_left: Sequence[int],
        tokens_BL: Tensor,
        masked_BL: Tensor,
        drawing: Drawing | None,
    ) -> Texts:
        device, length = logits_NV.device, tokens_BL.shape[1]
        automata = self.stacked(starts, device)
        picked = list(index)
        num_rows_K = canvases.num_rows_B[picked]
        end_K = np.minimum(canvases.width_B[picked], num_left)
        start_K = [start.state for start in starts]
        host = np.stack((index, start_K, end_K, np.array(num_left) - end_K)).T
        index_K, start, end, slack = async_tensor_h2d(host, device=device).unbind(1)
        open_KL = masked_BL[index_K]
        fixed_KL = torch.where(open_KL, -1, tokens_BL[index_K])
        # One copy to the host: what is settled. It is followed there anyway.
        fixed = fixed_KL.cpu().numpy()
        position_L = np.arange(length)
        has_row = position_L < num_rows_K[:, None]
        request_P, at_P = np.nonzero(has_row & (fixed < 0) & (position_L < end_K[:, None]))
        row_P = canvases.row_start_B[picked][request_P] + at_P
        classes = [start.tables.automaton.class_V for start in starts]
        scores = self._scores(logits_NV, automata, starts, request_P, at_P, row_P, length)
        if drawing is not None:
            classes_P = [starts[k].tables.automaton.classes for k in request_P.tolist()]
            drawing.read(logits_NV, scores, (request_P, at_P, row_P), classes_P)
        class_KL = np.stack(
            [one[np.maximum(row, 0)] for one, row in zip(classes, fixed, strict=True)]
        )
        block = Block(None, fixed_KL, start, end, slack)
        text = block_text.block_text(
            scores,
            block,
            async_tensor_h2d(class_KL.astype(np.int64), device=device),
            automata,
            block_text.TRUSTED,
            drawing,
        )
        is_chosen_KL = open_KL & async_tensor_h2d(has_row, device=device)
        is_chosen_KL &= text.has_text[:, None]
        is_chosen_KL &= torch.arange(length, device=device) < end[:, None]
        return Texts(
            index_K=index_K,
            token_KL=text.token,
            prob_KL=text.prob,
            second_KL=text.second,
            entropy_KL=text.entropy,
            is_chosen_KL=is_chosen_KL,
            is_forced_KL=text.is_forced & is_chosen_KL,
            is_behind_KL=text.is_behind & is_chosen_KL,
        )

    def _texts_cpp(
        self,
        logits_NV: Tensor,
        canvases: Canvases,
        index: Sequence[int],
        starts: Sequence[TokenDfaMatcher],
        num_left: Sequence[int],
        tokens_BL: Tensor,
        masked_BL: Tensor,
    ) -> Texts:
        """As the step in C++ alone has it, so that no text depends on which step is taken."""
        picked, length = list(index), tokens_BL.shape[1]
        tokens_BL, masked_BL = tokens_BL.contiguous(), masked_BL.contiguous()
        end_K = np.minimum(canvases.width_B[picked], num_left)
        place_K = np.array(picked) * length
        jobs = np.empty((len(picked), len(Job)), dtype=np.int64)
        jobs[:, Job.AUTOMATON] = [start.tables.native.address for start in starts]
        jobs[:, Job.TOKENS] = tokens_BL.data_ptr() + place_K * tokens_BL.itemsize
        jobs[:, Job.MASKED] = masked_BL.data_ptr() + place_K * masked_BL.itemsize
        jobs[:, Job.START] = [start.state for start in starts]
        jobs[:, Job.END] = end_K
        jobs[:, Job.SLACK] = np.array(num_left) - end_K
        jobs[:, Job.ROW_START] = canvases.row_start_B[picked]
        jobs[:, Job.NUM_ROWS] = canvases.num_rows_B[picked]
        found = block_texts(jobs, logits_NV, length, self.mask_id, block_text.TRUSTED)
        return Texts(
            index_K=torch.from_numpy(np.array(picked)),
            token_KL=found.token,
            prob_KL=found.prob,
            second_KL=found.second,
            entropy_KL=found.entropy,
            is_chosen_KL=found.is_chosen,
            is_forced_KL=found.is_forced & found.is_chosen,
            is_behind_KL=found.is_behind & found.is_chosen,
        )

    def _scores(
        self,
        logits_NV: Tensor,
        automata: Automata,
        starts: Sequence[TokenDfaMatcher],
        request_P: np.ndarray,
        at_P: np.ndarray,
        row_P: np.ndarray,
        length: int,
    ) -> Scores:
        """Statistics of open positions; where the step has none, every token is as good."""
        num_classes = automata.num_classes - 1
        size_KC = automata.size_KC[:, None].expand(-1, length, -1)
        total = size_KC.double().log()
        first = torch.where(size_KC > 0, 0.0, NEVER)
        second = torch.where(size_KC > 1, 0.0, NEVER)
        token = automata.sample_KC[:, None].expand(-1, length, -1).clone()
        weighted = torch.zeros_like(total)
        if len(row_P):
            classes_P = [starts[k].tables.automaton.classes for k in request_P.tolist()]
            stats = class_stats(logits_NV, row_P, classes_P, num_classes, self.mask_id)
            places = async_tensor_h2d(np.stack((request_P, at_P)), device=logits_NV.device)
            where = (places[0], places[1])
            total[where], weighted[where] = stats.total, stats.weighted
            first[where], second[where] = stats.first, stats.second
            token[where] = stats.token.clamp(min=0)
        return Scores(total, weighted, first, second, token)
