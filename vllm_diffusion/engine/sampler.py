"""The denoising step on the runner's batch, in the place of its sampler.

Shape suffixes: R requests in the batch, B of them with a canvas, L canvas
length, N rows of logits.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.sample.output import SamplerOutput
from vllm.v1.worker.gpu.states import RequestState

from vllm_diffusion.canvas import Canvas
from vllm_diffusion.denoise.sample import Draws, candidates
from vllm_diffusion.denoise.step import StepParams, denoise
from vllm_diffusion.engine.requests import RequestParams
from vllm_diffusion.plan import DecodePlan


class DiffusionSampler:
    """Runs one denoising step for every request that has a canvas in the batch.

    The runner's account of a request is ``computed += query - num_rejected``.
    A canvas step rejects one whole block whether it converged or not: the K and
    V of a block count only from a forward whose inputs were final, and that is
    the next step, which reads [finished block | next canvas].
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
    ) -> None:
        self.plan = plan
        self.params = params
        self.req_states = req_states
        self.max_model_len = max_model_len
        self.device = req_states.device
        self.canvas = Canvas.over(req_states.draft_tokens, plan.mask_id)
        self.position_L = torch.arange(plan.canvas_length, device=self.device)

    @property
    def sampling_states(self) -> Any:
        return None

    def add_request(self, req_idx: int, sampling_params: Any) -> None:
        """Nothing to do: the model state has written the slot already."""

    def apply_staged_writes(self) -> None:
        """Nothing is staged here."""

    def __call__(
        self, logits_NV: Tensor, input_batch: InputBatch, draft_logits: Tensor | None = None
    ) -> SamplerOutput:
        num_reqs = input_batch.num_reqs
        sampled_RL = torch.zeros(
            num_reqs, self.plan.canvas_length, dtype=torch.int64, device=self.device
        )
        num_sampled_R = torch.zeros(num_reqs, dtype=torch.int32, device=self.device)
        num_rejected_R = torch.zeros(num_reqs, dtype=torch.int32, device=self.device)
        if input_batch.num_draft_tokens > 0:
            self._step(logits_NV, input_batch, sampled_RL, num_sampled_R, num_rejected_R)
        return SamplerOutput(
            sampled_token_ids=sampled_RL,
            logprobs_tensors=None,
            num_nans=None,
            num_sampled=num_sampled_R,
            num_rejected=num_rejected_R,
        )

    def _step(
        self,
        logits_NV: Tensor,
        input_batch: InputBatch,
        sampled_RL: Tensor,
        num_sampled_R: Tensor,
        num_rejected_R: Tensor,
    ) -> None:
        """Denoise, and write what the runner wants to know into the last three."""
        row_start_np = input_batch.cu_num_logits_np[: input_batch.num_reqs]
        width_np = np.diff(input_batch.cu_num_logits_np[: input_batch.num_reqs + 1])
        batch_np = np.flatnonzero(width_np)
        slot_np = input_batch.idx_mapping_np[batch_np]
        # One copy to the device for all that the host knows about the step.
        host_np = np.stack((batch_np, slot_np, row_start_np[batch_np], width_np[batch_np])).astype(
            np.int64
        )
        batch_B, slot_B, row_start_B, width_B = async_tensor_h2d(host_np, device=self.device)

        params, canvas = self.params, self.canvas
        total_len_B = self.req_states.total_len.gpu[slot_B].long()
        block_length_B = params.block_length.gpu[slot_B]
        step_B = canvas.step_S[slot_B]
        row_BL = row_start_B[:, None] + torch.minimum(self.position_L, (width_B - 1)[:, None])
        answer = candidates(
            logits_NV,
            row_BL,
            self.plan.mask_id,
            self._draws(slot_np, width_np[batch_np], row_start_np[batch_np], total_len_B, step_B),
        )
        result = denoise(
            canvas.tokens_SL[slot_B],
            canvas.masked_SL[slot_B],
            step_B,
            answer,
            StepParams(
                policies=params.policies_in(slot_np),
                policy_B=params.policy.gpu[slot_B],
                threshold_B=params.threshold.gpu[slot_B],
                max_steps_B=params.max_steps.gpu[slot_B],
                block_length_B=block_length_B,
                width_B=width_B,
                limit_B=params.max_len.gpu[slot_B].clamp(max=self.max_model_len) - total_len_B,
                stop_ids_BE=params.stop_ids.gpu[slot_B],
            ),
        )
        # A finished block makes room for a fresh canvas.
        is_done_B1 = (result.num_emitted_B > 0)[:, None]
        canvas.tokens_SL[slot_B] = torch.where(is_done_B1, canvas.mask_id, result.tokens_BL)
        canvas.masked_SL[slot_B] = result.masked_BL | is_done_B1
        canvas.step_S[slot_B] = torch.where(is_done_B1[:, 0], 0, step_B + 1)
        sampled_RL[batch_B] = result.tokens_BL
        num_sampled_R[batch_B] = result.num_emitted_B.int()
        num_rejected_R[batch_B] = block_length_B.int()

    def _draws(
        self,
        slot_np: np.ndarray,
        width_np: np.ndarray,
        row_start_np: np.ndarray,
        total_len_B: Tensor,
        step_B: Tensor,
    ) -> Draws | None:
        """The logits rows of requests with a temperature; None when there are none."""
        params = self.params
        is_drawn = params.temperature.np[slot_np] > 0
        if not is_drawn.any():
            return None
        request_np = np.repeat(np.flatnonzero(is_drawn), width_np[is_drawn])
        first_np = np.repeat(np.cumsum(width_np[is_drawn]) - width_np[is_drawn], width_np[is_drawn])
        offset_np = np.arange(len(request_np)) - first_np
        host_np = np.stack(
            (request_np, offset_np, row_start_np[request_np] + offset_np, slot_np[request_np])
        ).astype(np.int64)
        request_N, offset_N, row_N, slot_N = async_tensor_h2d(host_np, device=self.device)
        return Draws(
            row_N=row_N,
            temperature_N=params.temperature.gpu[slot_N],
            top_k_N=params.top_k.gpu[slot_N],
            top_p_N=params.top_p.gpu[slot_N],
            seed_N=params.seed.gpu[slot_N],
            position_N=total_len_B[request_N] + offset_N,
            step_N=step_B[request_N],
        )
