"""The requests of the runner that are held to a constraint.

Constraints are followed on the host, one request after the other. A step without such a request
does not come here; one with them copies their canvases to the host once, and what the constraints
say back.

Shape suffixes: B requests with a canvas, L canvas length, K constrained ones, W words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d

from vllm_diffusion.denoise.step import StepRule
from vllm_diffusion.isolation.failures import Failures
from vllm_diffusion.structured.budget import BudgetMatcher, ThinkingCanvas
from vllm_diffusion.structured.dfa_matcher import TokenDfaMatcher
from vllm_diffusion.structured.frontier import ConstrainedCanvas
from vllm_diffusion.structured.mask import mask_rows
from vllm_diffusion.worker.constrained import Constraints
from vllm_diffusion.worker.constrained_draws import Drawing
from vllm_diffusion.worker.matchers import Matchers

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.sched.output import NewRequestData

    from vllm_diffusion.batch.canvases import Canvases
    from vllm_diffusion.denoise.canvas import Canvas
    from vllm_diffusion.denoise.sample import Draws
    from vllm_diffusion.request.parsed import ParsedRequest
    from vllm_diffusion.request.plan import DecodePlan
    from vllm_diffusion.worker.constrained import Texts
    from vllm_diffusion.worker.cpu_constrained import CpuConstraints


class Grammars:
    """Slot-indexed; empty unless somebody asks for structured output."""

    def __init__(
        self, vllm_config: VllmConfig, plan: DecodePlan, max_model_len: int, failures: Failures
    ) -> None:
        self.plan, self.max_model_len, self.failures = plan, max_model_len, failures
        self.matchers = Matchers(vllm_config, plan.mask_id)
        self.constraints = Constraints(plan.mask_id)
        self.constrained: dict[int, ConstrainedCanvas] = {}
        self.on_cpu: CpuConstraints | None = None
        """Where the step may run in C++."""

    def add(
        self, slot: int, request: NewRequestData, parsed: ParsedRequest, canvas: Canvas
    ) -> None:
        """Take over the request's constraint, and fill in what its first canvas must start with.

        Raises:
            Exception: whatever is wrong with it; the request has failed then.
        """
        self.remove(slot)
        params, prompt = request.sampling_params, list(request.prompt_token_ids or ())
        assert params is not None and params.max_tokens is not None
        if not parsed.is_followed(params):
            return
        matcher, known_end = self.matchers.matcher(params, prompt, parsed)
        num_left = min(params.max_tokens, self.max_model_len - len(prompt))
        new = (ThinkingCanvas if isinstance(matcher, BudgetMatcher) else ConstrainedCanvas)(
            matcher=matcher,
            bits_W=np.zeros(self.matchers.num_words, dtype=np.uint32),
            mask_id=self.plan.mask_id,
            block_length=parsed.decode.block_length,
            num_left=num_left,
            known_end=known_end,
        )
        # A request that lost its K and V comes back with what it has emitted.
        known = request.prefill_token_ids or prompt
        new.replay(list(known[len(prompt) :]))
        width = self.plan.record.mask_group.canvas_width(len(known), new.block_length)
        tokens, masked = [self.plan.mask_id] * width, [True] * width
        new.follow(tokens, masked, width)
        self.constrained[slot] = new
        canvas.tokens_SL[slot, :width] = torch.tensor(tokens, device=canvas.tokens_SL.device)
        canvas.masked_SL[slot, :width] = torch.tensor(masked, device=canvas.masked_SL.device)

    def remove(self, slot: int) -> None:
        self.constrained.pop(slot, None)
        if self.on_cpu is not None:
            self.on_cpu.forget(slot)

    def of_step(self, canvases: Canvases) -> ConstrainedStep | None:
        """The constrained canvases of a step; None where there are none."""
        if not self.constrained:
            return None
        slots = canvases.slot_B.tolist()
        index = [b for b, slot in enumerate(slots) if slot in self.constrained]
        if not index:
            return None
        if self.on_cpu is not None:
            self.on_cpu.to_canvases([slots[b] for b in index])
        constrained = [self.constrained[slots[b]] for b in index]
        return ConstrainedStep(canvases, index, constrained, self.constraints, self.failures)


class ConstrainedStep(StepRule):
    """One denoising step's constrained canvases, ``index_K`` of the step's."""

    def __init__(
        self,
        canvases: Canvases,
        index_K: list[int],
        constrained_K: list[ConstrainedCanvas],
        constraints: Constraints,
        failures: Failures,
    ) -> None:
        self.canvases, self.index_K, self.constrained_K = canvases, index_K, constrained_K
        self.constraints, self.failures = constraints, failures

    def mask(self, logits_NV: Tensor) -> None:
        """Leave the tokens that may stand at each frontier, in place."""
        row_start, num_rows = self.canvases.row_start_B, self.canvases.num_rows_B
        rows = [
            (row_start[b] + constrained.frontier, constrained.bits_W)
            for b, constrained in zip(self.index_K, self.constrained_K, strict=True)
            if constrained.frontier < num_rows[b] and not constrained.matcher.is_done
        ]
        if not rows:
            return
        row_K = np.array([row for row, _ in rows], dtype=np.int64)
        bits_KW = np.stack([bits for _, bits in rows]).view(np.int32)
        device = logits_NV.device
        mask_rows(
            logits_NV,
            async_tensor_h2d(row_K, device=device),
            async_tensor_h2d(bits_KW, device=device),
        )

    def texts(
        self, logits_NV: Tensor, tokens_BL: Tensor, masked_BL: Tensor, draws: Draws | None
    ) -> tuple[Texts | None, Draws | None]:
        """Mask the logits.

        Returns:
            What the automata make of the step, None where there are none; what is left to draw.
        """
        found = [
            (b, constrained.at_start, constrained.num_left)
            for b, constrained in zip(self.index_K, self.constrained_K, strict=True)
            if isinstance(constrained.at_start, TokenDfaMatcher) and not constrained.matcher.is_done
        ]
        if not found:
            self.mask(logits_NV)
            return None, draws
        index, starts, num_left = zip(*found, strict=True)
        # What the model expects is read before anything is masked; draws are made of what is left.
        drawing = None if draws is None else Drawing(draws, self.mask, self.constraints.mask_id)
        texts = self.constraints.texts(
            logits_NV, self.canvases, index, starts, num_left, tokens_BL, masked_BL, drawing
        )
        if drawing is None:
            self.mask(logits_NV)
            return texts, None
        return texts, drawing.left(texts)

    def revise(self, tokens_BL: Tensor, masked_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Check what the step accepted, and fill in what must follow: ``structured.frontier``."""
        ends = [int(self.canvases.width_B[b]) for b in self.index_K]
        return self._follow(tokens_BL, masked_BL, ends)

    def start_next(
        self, num_emitted_B: Tensor, tokens_BL: Tensor, masked_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fill in what the canvases behind those that were emitted must start with."""
        ends = []
        for num_emitted, constrained in zip(
            num_emitted_B[self.index_K].tolist(), self.constrained_K, strict=True
        ):
            if num_emitted:
                constrained.emitted(num_emitted)
            ends.append(constrained.block_length if num_emitted else 0)
        return self._follow(tokens_BL, masked_BL, ends) if any(ends) else (tokens_BL, masked_BL)

    def _follow(
        self, tokens_BL: Tensor, masked_BL: Tensor, ends: list[int]
    ) -> tuple[Tensor, Tensor]:
        index = torch.tensor(self.index_K, device=tokens_BL.device)
        both_2KL = torch.stack((tokens_BL[index], masked_BL[index].long())).cpu()
        tokens_KL, masked_KL = both_2KL[0].tolist(), both_2KL[1].bool().tolist()
        slots = self.canvases.slot_B[self.index_K].tolist()
        for slot, constrained, tokens, masked, end in zip(
            slots, self.constrained_K, tokens_KL, masked_KL, ends, strict=True
        ):
            if end and slot not in self.failures.of_slot:
                follow: Callable[[], None] = _follow_of(constrained, tokens, masked, end)
                self.failures.run(slot, "A constrained canvas", follow)
            if slot in self.failures.of_slot:
                # Finished, so that the step that says so is this one.
                tokens[:end], masked[:end] = [0] * end, [False] * end
        both_2KL = torch.tensor((tokens_KL, masked_KL), dtype=torch.int64).to(tokens_BL.device)
        return (
            tokens_BL.index_copy(0, index, both_2KL[0]),
            masked_BL.index_copy(0, index, both_2KL[1].bool()),
        )


def _follow_of(
    constrained: ConstrainedCanvas, tokens: list[int], masked: list[bool], end: int
) -> Callable[[], None]:
    return lambda: constrained.follow(tokens, masked, end)
