"""Reads off the runner's batch what each of its requests does in the step.

All NumPy; the device is not asked. Shape suffixes: S slots, R requests in the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vllm_diffusion.denoise.policies import POLICY_INDEX
from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.mask_groups.view import BatchView

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.v1.worker.gpu.input_batch import InputBatch

    from vllm_diffusion.batch.slots import RequestParams

SELF_SPECULATION = POLICY_INDEX["self_speculation"]


def view_batch(
    input_batch: InputBatch,
    params: RequestParams,
    record: FamilyRecord,
    is_drafted_S: NDArray[np.bool_],
) -> BatchView:
    """Read the step off the runner's batch.

    Args:
        input_batch: as the runner has prepared it.
        params: of all slots.
        record: the family's.
        is_drafted_S: bool (S,), slots whose canvas holds a draft that waits for its verification.
    """
    num_reqs = input_batch.num_reqs
    borders = input_batch.query_start_loc_np[: num_reqs + 1]
    slot_R = input_batch.idx_mapping_np[:num_reqs].astype(np.int64)
    start_R = input_batch.num_computed_tokens_np[:num_reqs].astype(np.int64)
    end_R = start_R + np.diff(borders)
    num_rows_R = np.diff(input_batch.cu_num_logits_np[: num_reqs + 1]).astype(np.int64)
    if not record.has_seed:
        return BatchView(slot_R, start_R, end_R, num_rows_R, borders)
    known_R, block_R = end_R - num_rows_R, params.block_length.np[slot_R]
    is_seed_R = (num_rows_R == 1) & record.mask_group.starts_block(known_R, block_R)
    is_draft_R = is_verify_R = None
    if record.self_speculates:
        speculates_R = (params.policy.np[slot_R] == SELF_SPECULATION) & (num_rows_R > 0)
        speculates_R &= ~is_seed_R
        is_verify_R = speculates_R & is_drafted_S[slot_R]
        is_draft_R = speculates_R & ~is_verify_R
    return BatchView(
        slot_R, start_R, end_R, num_rows_R, borders, is_seed_R, is_draft_R, is_verify_R
    )
