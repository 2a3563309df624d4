"""The requests of the runner that are held to a grammar.

Grammars are followed on the host, one request after the other: the libraries know no other way.
A step without such a request does not come here; one with them copies their canvases to the host
once, and what the grammars say back.

Shape suffixes: B requests with a canvas, L canvas length, K of them held to a grammar, W words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from vllm.logger import init_logger
from vllm.utils.torch_utils import async_tensor_h2d

from vllm_diffusion.engine.automata import CompiledAutomata
from vllm_diffusion.engine.constrained import Constraints
from vllm_diffusion.engine.grammar_backends import Backends
from vllm_diffusion.engine.requests import has_grammar, is_walked
from vllm_diffusion.structured.budget import BudgetMatcher, ThinkingCanvas
from vllm_diffusion.structured.dfa_state import Track
from vllm_diffusion.structured.frontier import GuidedCanvas, Vocabulary
from vllm_diffusion.structured.mask import mask_rows
from vllm_diffusion.structured.matcher import Matcher, NoMatcher
from vllm_diffusion.structured.shortest_end import Closing
from vllm_diffusion.structured.utf8 import WellformedMatcher

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.core.sched.output import NewRequestData

    from vllm_diffusion.canvas import Canvas
    from vllm_diffusion.denoise.sample import Draws
    from vllm_diffusion.engine.canvases import Canvases
    from vllm_diffusion.engine.constrained import Texts
    from vllm_diffusion.plan import DecodePlan

logger = init_logger(f"vllm.{__name__}")


class Grammars:
    """Slot-indexed; empty unless somebody asks for structured output."""

    def __init__(self, vllm_config: VllmConfig, plan: DecodePlan, max_model_len: int) -> None:
        self.plan, self.max_model_len = plan, max_model_len
        self.backends = Backends(vllm_config, plan.mask_id)
        self.automata = CompiledAutomata(self.backends)
        self.constraints = Constraints(plan.mask_id)
        self.guided: dict[int, GuidedCanvas] = {}

    def add(self, slot: int, request: NewRequestData, canvas: Canvas) -> None:
        """Compile the request's grammar, and fill in what its first canvas must start with."""
        self.guided.pop(slot, None)
        params, prompt = request.sampling_params, list(request.prompt_token_ids or ())
        assert params is not None and params.max_tokens is not None
        if not is_walked(params):
            return
        backends = self.backends
        matcher = self._matcher(request.req_id, params, prompt)
        # Looked for where there is a grammar to close; a tokenizer's bytes cost seconds.
        closers = backends.closers if has_grammar(params) else backends.stop_ids(params)
        guided = (ThinkingCanvas if isinstance(matcher, BudgetMatcher) else GuidedCanvas)(
            matcher=matcher,
            bits_W=np.zeros(backends.num_words, dtype=np.uint32),
            vocabulary=Vocabulary(
                mask_id=self.plan.mask_id,
                stop_ids=backends.stop_ids(params),
                encode=backends.encode,
            ),
            closing=Closing(backends.num_words, backends.stop_ids(params), closers),
            block_length=self.plan.request_params(params.extra_args).block_length,
            num_left=min(params.max_tokens, self.max_model_len - len(prompt)),
        )
        if isinstance(matcher, WellformedMatcher):
            # Else thoughts may stand in front of the text, which no grammar is about.
            automaton = self.automata.of(params)
            guided.track = None if automaton is None else Track(automaton)
        # A request that lost its K and V comes back with what it has emitted.
        known = request.prefill_token_ids or prompt
        guided.replay(list(known[len(prompt) :]))
        self.guided[slot] = guided
        is_aligned = self.plan.record.mask_group == "block_causal"
        block = guided.block_length
        width = block - len(known) % block if is_aligned else block
        tokens, masked = [self.plan.mask_id] * width, [True] * width
        guided.walk(tokens, masked, width)
        canvas.tokens_SL[slot, :width] = torch.tensor(tokens, device=canvas.tokens_SL.device)
        canvas.masked_SL[slot, :width] = torch.tensor(masked, device=canvas.masked_SL.device)

    def _matcher(self, request_id: str, params: SamplingParams, prompt: list[int]) -> Matcher:
        try:
            return self.backends.matcher(params, prompt)
        except Exception:
            # The engine core has compiled it; but the worker's is stricter, and other requests
            # must not end with this one.
            logger.exception("The grammar of request %s cannot be compiled.", request_id)
            return NoMatcher()

    def remove(self, slot: int) -> None:
        self.guided.pop(slot, None)

    def of_step(self, canvases: Canvases) -> GuidedStep | None:
        """The guided canvases of a step; None where there are none."""
        if not self.guided:
            return None
        slots = canvases.slot_B.tolist()
        index = [b for b, slot in enumerate(slots) if slot in self.guided]
        if not index:
            return None
        guided = [self.guided[slots[b]] for b in index]
        return GuidedStep(canvases, index, guided, self.constraints)


class GuidedStep:
    """One denoising step's guided canvases, ``index_K`` of the step's."""

    def __init__(
        self,
        canvases: Canvases,
        index_K: list[int],
        guided_K: list[GuidedCanvas],
        constraints: Constraints,
    ) -> None:
        self.canvases, self.index_K, self.guided_K = canvases, index_K, guided_K
        self.constraints = constraints

    def mask(self, logits_NV: Tensor) -> None:
        """Leave the tokens that may stand at each frontier, in place."""
        row_start, num_rows = self.canvases.row_start_B, self.canvases.num_rows_B
        rows = [
            (row_start[b] + guided.frontier, guided.bits_W)
            for b, guided in zip(self.index_K, self.guided_K, strict=True)
            if guided.frontier < num_rows[b] and not guided.matcher.is_done
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
    ) -> Texts | None:
        """Mask the logits; what the automata make of the step, None where there are none."""
        found = [
            (b, guided.track, guided.num_left)
            for b, guided in zip(self.index_K, self.guided_K, strict=True)
            if guided.track is not None and not guided.matcher.is_done
        ]
        if not found:
            self.mask(logits_NV)
            return None
        index, tracks, num_left = zip(*found, strict=True)
        constraints = self.constraints
        expected = constraints.expect(logits_NV, self.canvases, index, tokens_BL.shape[1])
        self.mask(logits_NV)
        return constraints.texts(
            logits_NV, self.canvases, index, tracks, num_left, tokens_BL, masked_BL, draws, expected
        )

    def walk(self, tokens_BL: Tensor, masked_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Check what the step accepted, and fill in what must follow: see ``structured.frontier``."""
        ends = [int(self.canvases.width_B[b]) for b in self.index_K]
        return self._walk(tokens_BL, masked_BL, ends)

    def start_next(
        self, num_emitted_B: Tensor, tokens_BL: Tensor, masked_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fill in what the canvases behind those that were emitted must start with."""
        ends = []
        for num_emitted, guided in zip(
            num_emitted_B[self.index_K].tolist(), self.guided_K, strict=True
        ):
            if num_emitted:
                guided.emitted(num_emitted)
            ends.append(guided.block_length if num_emitted else 0)
        return self._walk(tokens_BL, masked_BL, ends) if any(ends) else (tokens_BL, masked_BL)

    def _walk(self, tokens_BL: Tensor, masked_BL: Tensor, ends: list[int]) -> tuple[Tensor, Tensor]:
        index = torch.tensor(self.index_K, device=tokens_BL.device)
        both_2KL = torch.stack((tokens_BL[index], masked_BL[index].long())).cpu()
        tokens_KL, masked_KL = both_2KL[0].tolist(), both_2KL[1].bool().tolist()
        for guided, tokens, masked, end in zip(
            self.guided_K, tokens_KL, masked_KL, ends, strict=True
        ):
            if not end or guided.is_stuck:
                continue
            had_track = guided.track is not None
            guided.walk(tokens, masked, end)
            if had_track and guided.track is None:
                logger.warning("A grammar's automaton disagrees with it, and is left out.")
            if guided.is_stuck:
                logger.error("A grammar allows no token at all; its request ends.")
        both_2KL = torch.tensor((tokens_KL, masked_KL), dtype=torch.int64).to(tokens_BL.device)
        return (
            tokens_BL.index_copy(0, index, both_2KL[0]),
            masked_BL.index_copy(0, index, both_2KL[1].bool()),
        )
