"""What the request in each slot asked for, as arrays that a step can index.

Written once when a request is added; a step only gathers. Shape suffixes: S
slots, B requests in the step, E stop ids.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch

from vllm_diffusion.batch.device import slot_array
from vllm_diffusion.batch.laid import Asked, LaidTokens
from vllm_diffusion.denoise.policies import POLICIES, POLICY_INDEX
from vllm_diffusion.request.parsed import ParsedRequest
from vllm_diffusion.request.plan import DecodePlan

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.sampling_params import SamplingParams
    from vllm.v1.core.sched.output import NewRequestData

DRAFT_THRESHOLD = POLICIES["confidence"].default_threshold
"""Of drafts, where the policy's own bound is no probability."""
POLICY_NAMES = tuple(POLICIES)
NO_TOKEN = -1


def stop_ids(params: SamplingParams) -> list[int]:
    """The ids at which the scheduler's ``check_stop`` ends this request."""
    ids = set(params.stop_token_ids or ())
    if params.eos_token_id is not None:
        ids.add(params.eos_token_id)
    return sorted(ids)


class RequestParams:
    """Slot-indexed decode and sampling parameters, on host and device."""

    def __init__(self, num_slots: int, plan: DecodePlan, vocab_size: int) -> None:
        self.plan = plan
        self.vocab_size = vocab_size
        self.policy = slot_array(num_slots, torch.int64)
        self.threshold = slot_array(num_slots, torch.float32)
        self.max_steps = slot_array(num_slots, torch.int64)
        self.block_length = slot_array(num_slots, torch.int64)
        self.sub_block = slot_array(num_slots, torch.int64)
        self.edit_threshold = slot_array(num_slots, torch.float32)
        self.max_post_steps = slot_array(num_slots, torch.int64)
        self.max_len = slot_array(num_slots, torch.int64)
        self.temperature = slot_array(num_slots, torch.float32)
        self.seed = slot_array(num_slots, torch.int64)
        # For the host alone.
        self.keeps_cache = np.zeros(num_slots, dtype=np.bool_)
        self.is_followed = np.zeros(num_slots, dtype=np.bool_)
        self.guidance = np.zeros(num_slots, dtype=np.float32)
        self.prompt_len = np.zeros(num_slots, dtype=np.int64)
        self.laid = LaidTokens(num_slots, plan.mask_id)
        self.stop_ids = slot_array((num_slots, 4), torch.int64)
        self.stop_ids.np.fill(NO_TOKEN)
        # Dummy batches index slots that no request has filled.
        self.block_length.np.fill(plan.canvas_length)
        self.sub_block.np.fill(plan.canvas_length)
        self.edit_threshold.np.fill(np.inf)
        self.max_steps.np.fill(1)
        self.copy_to_device()

    def add(self, slot: int, request: NewRequestData, parsed: ParsedRequest) -> None:
        """Write the parameters of the request that now owns ``slot``."""
        sampling = request.sampling_params
        assert sampling is not None and sampling.max_tokens is not None
        decode = parsed.decode
        self.policy.np[slot] = POLICY_INDEX[decode.policy]
        self.threshold.np[slot] = decode.threshold
        self.max_steps.np[slot] = decode.max_steps
        self.block_length.np[slot] = decode.block_length
        self.sub_block.np[slot] = decode.sub_block_length
        self.is_followed[slot] = parsed.is_followed(sampling)
        # An edit of what the frontier has passed could undo all that follows it.
        edits = decode.edits and not self.is_followed[slot]
        self.edit_threshold.np[slot] = decode.edit_threshold if edits else np.inf
        self.max_post_steps.np[slot] = decode.max_post_steps
        self.guidance[slot] = decode.guidance_scale
        self.prompt_len[slot] = request.prompt_len
        self.keeps_cache[slot] = decode.kv_cache != "exact"
        self.max_len.np[slot] = request.prompt_len + sampling.max_tokens
        self.temperature.np[slot] = sampling.temperature
        # Every tensor-parallel rank must draw alike, so not a local generator.
        self.seed.np[slot] = (
            sampling.seed if sampling.seed is not None else zlib.crc32(request.req_id.encode())
        )
        stops = [id for id in stop_ids(sampling) if id < self.vocab_size]
        self._write_stop_ids(slot, stops)
        is_share = decode.policy == "confidence"
        threshold = decode.threshold if is_share else DRAFT_THRESHOLD
        seed = parsed.seed
        asked = Asked(seed, threshold, stops) if seed is not None and seed.tokens else None
        self.laid.add(slot, asked)

    def _write_stop_ids(self, slot: int, ids: list[int]) -> None:
        num_slots, width = self.stop_ids.np.shape
        if len(ids) > width:
            wider = slot_array((num_slots, 2 * len(ids)), torch.int64)
            wider.np.fill(NO_TOKEN)
            wider.np[:, :width] = self.stop_ids.np
            self.stop_ids = wider
        self.stop_ids.np[slot].fill(NO_TOKEN)
        self.stop_ids.np[slot, : len(ids)] = ids

    def remove(self, slot: int) -> None:
        """Forget the slot's request, as far as dummy batches could see it."""
        self.block_length.np[slot] = self.plan.canvas_length
        self.max_len.np[slot] = 0
        self.guidance[slot] = 0
        self.laid.add(slot, None)

    def copy_to_device(self) -> None:
        """Make what was written visible to the next step."""
        self.laid.copy_to_device()
        for values in (
            self.policy,
            self.threshold,
            self.max_steps,
            self.block_length,
            self.sub_block,
            self.edit_threshold,
            self.max_post_steps,
            self.max_len,
            self.temperature,
            self.seed,
            self.stop_ids,
        ):
            values.copy_to_uva()

    def policies_in(self, slot_B: NDArray[np.intp]) -> tuple[str, ...]:
        """The names of the policies among ``slot_B``."""
        in_use = np.flatnonzero(np.bincount(self.policy.np[slot_B]))
        return tuple(POLICY_NAMES[index] for index in in_use)
