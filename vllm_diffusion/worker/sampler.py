"""The denoising step on the runner's batch, in the place of its sampler.

Shape suffixes: S slots, R requests in the batch, B of them with a canvas, L
canvas length, N rows of logits.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.sample.output import SamplerOutput
from vllm.v1.worker.gpu.states import RequestState

from vllm_diffusion.batch.canvases import Canvases, CanvasTensors, canvases_of
from vllm_diffusion.batch.device import to_device
from vllm_diffusion.batch.slots import RequestParams
from vllm_diffusion.batch.view import view_batch
from vllm_diffusion.denoise.canvas import Canvas
from vllm_diffusion.denoise.edit import EditParams
from vllm_diffusion.denoise.laid import Laid, own_prob
from vllm_diffusion.denoise.random import uniform
from vllm_diffusion.denoise.rules import Chances, Seeds, SubBlocks
from vllm_diffusion.denoise.sample import candidates
from vllm_diffusion.denoise.step import StepParams, StepResult, StepRule, denoise
from vllm_diffusion.denoise.verify import verify
from vllm_diffusion.isolation.failures import Failure, Failures
from vllm_diffusion.kernels import dispatch
from vllm_diffusion.mask_groups.view import BatchView
from vllm_diffusion.request.plan import DecodePlan
from vllm_diffusion.sampling.logits_ops import LogitsOps
from vllm_diffusion.worker.cpu_constrained import CpuConstraints
from vllm_diffusion.worker.cpu_step import CpuStep, FastPath
from vllm_diffusion.worker.frames import Frames
from vllm_diffusion.worker.grammars import Grammars
from vllm_diffusion.worker.guidance import guide

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.v1.outputs import LogprobsTensors

    from vllm_diffusion.denoise.sample import Candidates, Draws


class DiffusionSampler:
    """Runs one denoising step for every request that has a canvas in the batch.

    The runner's account of a request is ``computed += query - num_rejected``,
    so what is rejected says where the final K and V end, whatever was emitted.
    """

    compute_nans = False
    # The runner asks for the bin counts of penalties; None means there are none.
    penalties_state = SimpleNamespace(output_bin_counts=None)

    def __init__(
        self,
        plan: DecodePlan,
        params: RequestParams,
        req_states: RequestState,
        max_model_len: int,
        grammars: Grammars | None = None,
        failures: Failures | None = None,
        logprobs_mode: str = "raw_logprobs",
    ) -> None:
        self.plan = plan
        self.mask_group = plan.record.mask_group(plan.record)
        self.grammars = grammars
        self.failures = Failures() if failures is None else failures
        self.params = params
        self.req_states = req_states
        self.max_model_len = max_model_len
        self.device = req_states.device
        self.total_len_S = req_states.total_len.gpu
        self.canvas = Canvas.over(req_states.draft_tokens, plan.mask_id)
        self.position_L = torch.arange(plan.canvas_length, device=self.device)
        # Known to the host: a draft is followed by its verification.
        self.is_drafted_S = np.zeros(len(self.canvas.step_S), dtype=np.bool_)
        self.logits_ops = LogitsOps(params, req_states, self.canvas, logprobs_mode)
        self.frames = Frames(self.canvas)
        # Called with the logits of the worker's first step, which is vLLM's profile run.
        self.rehearsal: Callable[[Tensor], None] | None = None
        self.cpu_step: CpuStep | None = None
        if dispatch.uses_cpp(self.device.type == "cpu"):
            constraints = None
            if grammars is not None:
                num_slots = len(self.canvas.step_S)
                constraints = CpuConstraints(num_slots, grammars.constrained, self.failures)
                grammars.on_cpu = constraints
            self.cpu_step = CpuStep(
                params, self.canvas, self.total_len_S, max_model_len, constraints
            )

    @property
    def sampling_states(self) -> Any:
        return None

    def add_request(self, req_idx: int, sampling_params: Any) -> None:
        """The model state has written the slot's parameters already."""
        self.failures.run(
            req_idx,
            "A request's sampling fields",
            lambda: self.logits_ops.add(req_idx, sampling_params),
            Failure.PARAMETERS,
        )
        if self.cpu_step is not None:
            self.cpu_step.add_request(req_idx, has_rule=self.logits_ops.has_rule(req_idx))

    def apply_staged_writes(self) -> None:
        """Make what requests asked for visible to the next step."""
        self.logits_ops.copy_to_device()

    def clear(self, slot: int) -> None:
        """A new request, or one that starts over, owns ``slot``."""
        self.canvas.clear(slot)
        self.is_drafted_S[slot] = False

    def __call__(
        self, logits_NV: Tensor, input_batch: InputBatch, draft_logits: Tensor | None = None
    ) -> SamplerOutput:
        if self.rehearsal is not None:
            self.rehearsal(logits_NV)
            self.rehearsal = None
        output = self._sample(logits_NV, input_batch)
        if self.failures.of_slot:
            self._report_failures(output, input_batch)
        return output

    def _report_failures(self, output: SamplerOutput, input_batch: InputBatch) -> None:
        """Requests that have failed say so in the place of tokens."""
        slots = input_batch.idx_mapping_np[: input_batch.num_reqs].tolist()
        for row, slot in enumerate(slots):
            if slot in self.failures.of_slot:
                output.sampled_token_ids[row, 0] = int(self.failures.of_slot[slot])
                output.num_sampled[row] = 1

    def _sample(self, logits_NV: Tensor, input_batch: InputBatch) -> SamplerOutput:
        num_reqs = input_batch.num_reqs
        if input_batch.num_draft_tokens > 0 and self.cpu_step is not None:
            path = self.cpu_step.path(input_batch.idx_mapping_np)
            if path is not FastPath.NONE:
                draws = snapshot = before = None
                has_logits_ops = self.logits_ops.are_asked(input_batch.idx_mapping_np[:num_reqs])
                is_watched = self.frames.asked(input_batch)
                if has_logits_ops or is_watched or path is FastPath.DRAWN:
                    _, canvases = self._canvases(input_batch)
                    draws = self._draws(canvases)
                    snapshot = (
                        self.logits_ops.before(logits_NV, canvases) if has_logits_ops else None
                    )
                    before = self.frames.before(logits_NV, canvases) if is_watched else None
                outcome = self.cpu_step.run(
                    logits_NV, draws, input_batch, is_constrained=path is FastPath.CONSTRAINED
                )
                if before is not None:
                    self.frames.after(before, logits_NV, canvases, *outcome[:2])
                logprobs = self.logits_ops.after(snapshot, *outcome[:2])
                return output_of(*outcome, logprobs)
        sampled_RL = torch.zeros(
            num_reqs, self.plan.canvas_length, dtype=torch.int64, device=self.device
        )
        num_sampled_R = torch.zeros(num_reqs, dtype=torch.int32, device=self.device)
        num_rejected_R = torch.zeros(num_reqs, dtype=torch.int32, device=self.device)
        snapshot = before = None
        if input_batch.num_draft_tokens > 0:
            view, canvases = self._canvases(input_batch)
            scale_R = self.params.guidance[view.slot_R]
            if scale_R.any():
                scale_N = np.repeat(scale_R, view.num_rows_R)
                logits_NV = guide(logits_NV, scale_N > 0, scale_N)
            snapshot = self.logits_ops.before(logits_NV, canvases)
            if self.frames.asked(input_batch):
                before = self.frames.before(logits_NV, canvases)
            batch = canvases.to_device(self.total_len_S)
            tokens_BL, num_emitted_B = self._step(logits_NV, self._draws(canvases), batch)
            sampled_RL[batch.request_B] = tokens_BL
            num_sampled_R[batch.request_B] = num_emitted_B.int()
            num_rejected_R[batch.request_B] = batch.num_rejected(
                self.mask_group, num_emitted_B
            ).int()
            if view.is_draft_R is not None:
                self.is_drafted_S[view.slot_R] = view.is_draft_R
            if before is not None:
                self.frames.after(before, logits_NV, canvases, sampled_RL, num_sampled_R)
        logprobs = self.logits_ops.after(snapshot, sampled_RL, num_sampled_R)
        return output_of(sampled_RL, num_sampled_R, num_rejected_R, logprobs)

    def _canvases(self, input_batch: InputBatch) -> tuple[BatchView, Canvases]:
        view = view_batch(input_batch, self.params, self.plan.record, self.is_drafted_S)
        borders = input_batch.cu_num_logits_np
        return view, canvases_of(view, borders, self.params, self.plan, self.max_model_len)

    def _draws(self, batch: Canvases) -> Draws | None:
        return self.logits_ops.drawn.draws(batch, self.canvas.step_S, self.total_len_S)

    def _step(
        self, logits_NV: Tensor, draws: Draws | None, batch: CanvasTensors
    ) -> tuple[Tensor, Tensor]:
        """Denoise; returns tokens (B, L) whose first so many (B,) are emitted."""
        canvas, slot_B = self.canvas, batch.slot_B
        step_B = canvas.step_S[slot_B]
        constrained = self.grammars.of_step(batch.host) if self.grammars is not None else None
        tokens_BL, masked_BL, texts = canvas.tokens_SL[slot_B], canvas.masked_SL[slot_B], None
        if constrained is not None:
            texts, draws = constrained.texts(logits_NV, tokens_BL, masked_BL, draws)
        last_row_B1 = (batch.num_rows_B - 1)[:, None]
        row_BL = batch.row_start_B[:, None] + torch.minimum(self.position_L, last_row_B1)
        answer = candidates(logits_NV, row_BL, self.plan.mask_id, draws)
        laid = None
        if self.params.laid.are_asked(batch.host.slot_B):
            prob_BL = own_prob(logits_NV, row_BL, tokens_BL, answer)
            laid = self._laid(batch, prob_BL, step_B)
        if texts is not None:
            answer = texts.over(answer)
            tokens_BL, masked_BL = texts.fill(tokens_BL, masked_BL)
        params = self._step_params(batch)
        rules = self._rules(batch, step_B, params.policies)
        rules += [rule for rule in (constrained, laid) if rule is not None]
        result = denoise(tokens_BL, masked_BL, step_B, answer, params, rules)
        num_emitted_B = result.num_emitted_B
        # A finished block makes room for a fresh canvas.
        is_done_B1 = (num_emitted_B > 0)[:, None]
        next_BL = torch.where(is_done_B1, canvas.mask_id, result.tokens_BL)
        masked_BL = result.masked_BL | is_done_B1
        new_BL, next_step_B = result.tokens_BL, result.step_B
        if batch.is_seed_B is not None:
            next_step_B = torch.where(batch.is_seed_B, step_B, next_step_B)
        if batch.is_verify_B is not None:
            assert batch.is_draft_B is not None
            new_BL, num_emitted_B, next_BL, masked_BL = self._speculated(
                batch, tokens_BL, answer, params, result
            )
            is_done_B1 = (num_emitted_B > 0)[:, None]
        if constrained is not None:
            next_BL, masked_BL = constrained.start_next(num_emitted_B, next_BL, masked_BL)
        if laid is not None:
            emitted = (new_BL, num_emitted_B)
            next_BL, masked_BL = self._lay_next(laid, batch, emitted, next_BL, masked_BL)
        canvas.tokens_SL[slot_B] = next_BL
        canvas.masked_SL[slot_B] = masked_BL
        canvas.step_S[slot_B] = torch.where(is_done_B1[:, 0], 0, next_step_B)
        if result.post_step_B is not None:
            canvas.post_step_S[slot_B] = torch.where(is_done_B1[:, 0], 0, result.post_step_B)
        return new_BL, num_emitted_B

    def _laid(self, batch: CanvasTensors, prob_BL: Tensor, step_B: Tensor) -> Laid:
        """What the step has to heed of what requests have laid into their canvases."""
        laid, slot_B = self.params.laid, batch.host.slot_B

        def of_slots(chosen_S: NDArray[np.bool_]) -> Tensor:
            return to_device(chosen_S[slot_B].astype(np.int64), self.device).bool()

        follows_S = laid.places.follows_S
        return laid.rule(
            batch.slot_B,
            of_slots(laid.is_laid_S),
            prob_BL,
            batch.num_rows_B,
            step_B,
            of_slots(follows_S) if follows_S[slot_B].any() else None,
        )

    def _lay_next(
        self,
        laid: Laid,
        batch: CanvasTensors,
        emitted: tuple[Tensor, Tensor],
        next_BL: Tensor,
        masked_BL: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The canvases with what is laid into those that start afresh."""
        prompt_len = self.params.prompt_len[batch.host.slot_B]
        return self.params.laid.start_next(
            laid,
            batch.slot_B,
            (next_BL, masked_BL),
            emitted,
            batch.total_len_B + emitted[1] - to_device(prompt_len, self.device),
            batch.block_length_B,
            has_seed=self.plan.record.has_seed,
        )

    def _step_params(self, batch: CanvasTensors) -> StepParams:
        params, slot_B = self.params, batch.slot_B
        return StepParams(
            policies=params.policies_in(batch.host.slot_B),
            policy_B=params.policy.gpu[slot_B],
            threshold_B=params.threshold.gpu[slot_B],
            max_steps_B=params.max_steps.gpu[slot_B],
            block_length_B=batch.block_length_B,
            width_B=batch.width_B,
            limit_B=params.max_len.gpu[slot_B].clamp(max=self.max_model_len) - batch.total_len_B,
            stop_ids_BE=params.stop_ids.gpu[slot_B],
        )

    def _rules(
        self, batch: CanvasTensors, step_B: Tensor, policies: tuple[str, ...]
    ) -> list[StepRule]:
        """What some of the step's requests ask for, in the order in which it is done."""
        params, slot_B, slot_np = self.params, batch.slot_B, batch.host.slot_B
        rules: list[StepRule] = []
        if batch.is_seed_B is not None:
            rules.append(Seeds(batch.num_rows_B, batch.width_B))
        if (params.sub_block.np[slot_np] < params.block_length.np[slot_np]).any():
            rules.append(SubBlocks(params.sub_block.gpu[slot_B]))
        if "origin" in policies:
            position_BL = batch.total_len_B[:, None] + self.position_L
            seed_B1 = params.seed.gpu[slot_B][:, None]
            rules.append(Chances(uniform(seed_B1, position_BL, step_B[:, None])))
        if np.isfinite(params.edit_threshold.np[slot_np]).any():
            rules.append(
                EditParams(
                    threshold_B=params.edit_threshold.gpu[slot_B],
                    max_post_steps_B=params.max_post_steps.gpu[slot_B],
                    post_step_B=self.canvas.post_step_S[slot_B],
                )
            )
        return rules + self.logits_ops.rules(batch.host)

    def _speculated(
        self,
        batch: CanvasTensors,
        tokens_BL: Tensor,
        answer: Candidates,
        params: StepParams,
        result: StepResult,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The step's outcome where drafts are made or judged; the others' stays.

        Returns tokens (B, L) and how many of them (B,) are emitted; tokens and
        mask (B, L) of the canvases after that.
        """
        assert batch.is_verify_B is not None and batch.is_draft_B is not None
        text_BL, num_verified_B, seed_B = verify(
            tokens_BL, answer.token_BL, batch.width_B, params.limit_B, params.stop_ids_BE
        )
        is_verify_B1 = batch.is_verify_B[:, None]
        # A draft is only emitted as far as it was verified.
        num_emitted_B = torch.where(batch.is_draft_B, 0, result.num_emitted_B)
        num_emitted_B = torch.where(batch.is_verify_B, num_verified_B, num_emitted_B)
        new_BL = torch.where(is_verify_B1, text_BL, result.tokens_BL)
        is_done_B1 = (num_emitted_B > 0)[:, None]
        masked_BL = result.masked_BL | is_done_B1
        masked_BL[:, 0] &= ~batch.is_verify_B
        next_BL = torch.where(is_done_B1, self.canvas.mask_id, new_BL)
        next_BL[:, 0] = torch.where(batch.is_verify_B, seed_B, next_BL[:, 0])
        return new_BL, num_emitted_B, next_BL, masked_BL


def output_of(
    sampled_RL: Tensor,
    num_sampled_R: Tensor,
    num_rejected_R: Tensor,
    logprobs: LogprobsTensors | None = None,
) -> SamplerOutput:
    """What the runner wants to hear."""
    return SamplerOutput(
        sampled_token_ids=sampled_RL,
        logprobs_tensors=logprobs,
        num_nans=None,
        num_sampled=num_sampled_R,
        num_rejected=num_rejected_R,
    )
