"""The plain denoising step on the CPU: C++ on the runner's own memory, in one call.

What is plain stands in ``kernels/cpu_denoise.py``; a request that is not sends the whole batch
through torch. Shape suffixes: S slots, R requests in the batch, N rows of logits.
"""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vllm_diffusion.batch.slots import POLICY_NAMES, RequestParams
from vllm_diffusion.denoise.canvas import Canvas
from vllm_diffusion.denoise.sample import Draws, draw
from vllm_diffusion.kernels import dispatch
from vllm_diffusion.kernels.cpu_denoise import RULES, Denoiser, Outcome, Requests, Slots

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.v1.worker.gpu.input_batch import InputBatch

    from vllm_diffusion.worker.cpu_constrained import CpuConstraints


class FastPath(IntEnum):
    """What a request asks of a step; a batch is what the highest of its requests is."""

    GREEDY = 0
    CONSTRAINED = 1
    """Greedy, and C++ follows the constraint."""
    DRAWN = 2
    NONE = 3


class CpuStep:
    """Runs the step where all requests of the batch are plain.

    Args:
        params: of all slots.
        canvas: of all slots, on the CPU.
        total_len_S: int32 (S,), known tokens of all slots.
        max_model_len: of the engine.
        constraints: of requests that are held to one; None where nobody is.

    Raises:
        RuntimeError: the compiled library is not usable.
    """

    def __init__(
        self,
        params: RequestParams,
        canvas: Canvas,
        total_len_S: Tensor,
        max_model_len: int,
        constraints: CpuConstraints | None = None,
    ) -> None:
        self.params, self.canvas, self.constraints = params, canvas, constraints
        record = params.plan.record
        self.mask_group = record.mask_group(record)
        self.total_len_S = total_len_S.numpy()
        self.mask_id = canvas.mask_id
        # A list: to look up a few slots in it costs less than a NumPy call.
        self.path_S = [FastPath.NONE] * len(total_len_S)
        rule_S = torch.zeros_like(canvas.step_S)
        self.rule_S = rule_S.numpy()
        self.denoiser = Denoiser(
            Slots(
                rule_S=rule_S,
                # What the host writes; at the time of a step the device's copies are equal.
                threshold_S=params.threshold.cpu,
                max_steps_S=params.max_steps.cpu,
                block_length_S=params.block_length.cpu,
                max_len_S=params.max_len.cpu,
                stop_ids_SE=params.stop_ids.cpu,
                total_len_S=total_len_S,
                tokens_SL=canvas.tokens_SL,
                masked_SL=canvas.masked_SL,
                step_S=canvas.step_S,
                max_model_len=max_model_len,
                mask_id=canvas.mask_id,
            )
        )

    def add_request(self, slot: int, *, has_rule: bool = False) -> None:
        """Take note of the parameters in ``slot``; does it ask for a ``StepRule``."""
        params = self.params
        policy = POLICY_NAMES[params.policy.np[slot]]
        is_plain = (
            policy in RULES
            and not params.plan.record.has_seed
            and params.sub_block.np[slot] >= params.block_length.np[slot]
            and not np.isfinite(params.edit_threshold.np[slot])
            and not params.keeps_cache[slot]
            and not params.guidance[slot]
            and not params.laid.is_laid_S[slot]
            and not has_rule
        )
        is_held = bool(params.is_followed[slot])
        if is_held and (
            self.constraints is None
            or not self.constraints.can_follow(slot)
            or params.temperature.np[slot] > 0
        ):
            is_plain = False
        if not is_plain:
            self.path_S[slot] = FastPath.NONE
            return
        self.path_S[slot] = (
            FastPath.CONSTRAINED
            if is_held
            else FastPath.DRAWN
            if params.temperature.np[slot] > 0
            else FastPath.GREEDY
        )
        self.rule_S[slot] = RULES.index(policy)
        # Stop ids move when a request has more of them than any before.
        slots = self.denoiser.slots
        if params.stop_ids.cpu is not slots.stop_ids_SE:
            self.denoiser = Denoiser(replace(slots, stop_ids_SE=params.stop_ids.cpu))

    def path(self, slot_R: NDArray[np.intp]) -> FastPath:
        """Of the batch with the requests in ``slot_R``."""
        if not dispatch.uses_cpp(is_cpu=True):
            return FastPath.NONE
        paths = [self.path_S[slot] for slot in slot_R.tolist()]
        path = max(paths)
        if path is not FastPath.GREEDY and FastPath.CONSTRAINED in paths:
            assert self.constraints is not None
            # Draws, and requests that have failed, are known to torch alone.
            if path is FastPath.DRAWN or self.constraints.failures.of_slot:
                return FastPath.NONE
        return path

    def run(
        self,
        logits_NV: Tensor,
        draws: Draws | None,
        input_batch: InputBatch,
        *,
        is_constrained: bool = False,
    ) -> Outcome:
        """Denoise the canvases of a batch that is plain."""
        slot_R = input_batch.idx_mapping_np
        end_R = input_batch.seq_lens.numpy()[: len(slot_R)]
        # No seed, no draft and no cache is plain, so the outcome has no say in it.
        resume_R = self.mask_group.resume(
            self.total_len_S[slot_R].astype(np.int64), self.params.block_length.np[slot_R]
        )
        requests = Requests(
            slot_R=input_batch.idx_mapping,
            row_border_R=input_batch.cu_num_logits,
            rejected_R=torch.from_numpy(end_R - resume_R),
        )
        if is_constrained:
            assert self.constraints is not None
            return self.constraints.run(self.denoiser, self.canvas, logits_NV, requests)
        if draws is None:
            return self.denoiser.from_logits(logits_NV, requests)
        stats = dispatch.row_stats(logits_NV, exclude_id=self.mask_id)
        return self.denoiser.from_stats(draw(logits_NV, stats, draws, self.mask_id), requests)
