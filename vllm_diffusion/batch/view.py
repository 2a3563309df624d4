"""What each request of the runner's batch does in a step, as the host knows it.

The worker's side of ``spans``: the phase follows from the query that the
scheduler chose, and the numbers here say where its canvas is. All NumPy; the
device is not asked. Shape suffix: R requests in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vllm_diffusion.denoise.policies import POLICY_INDEX
from vllm_diffusion.family.record import FamilyRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vllm.v1.worker.gpu.input_batch import InputBatch

    from vllm_diffusion.batch.slots import RequestParams

SELF_SPECULATION = POLICY_INDEX["self_speculation"]


@dataclass(frozen=True, slots=True)
class BatchView:
    """Positions are counted from each request's first token."""

    slot_R: NDArray[np.int64]
    start_R: NDArray[np.int64]
    """Where the query starts: K and V before it are final (or cached, by choice)."""
    end_R: NDArray[np.int64]
    num_rows_R: NDArray[np.int64]
    """Canvas positions that have logits; 0 where the query is prompt alone."""
    is_seed_R: NDArray[np.bool_] | None = None
    """The query ends with one canvas position, whose token is the autoregressive one."""
    is_draft_R: NDArray[np.bool_] | None = None
    is_verify_R: NDArray[np.bool_] | None = None

    @property
    def known_R(self) -> NDArray[np.int64]:
        """Known tokens, where the query ends with the canvas: not for full attention."""
        known: NDArray[np.int64] = self.end_R - self.num_rows_R
        return known


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
    slot_R = input_batch.idx_mapping_np[:num_reqs].astype(np.int64)
    start_R = input_batch.num_computed_tokens_np[:num_reqs].astype(np.int64)
    end_R = start_R + np.diff(input_batch.query_start_loc_np[: num_reqs + 1])
    num_rows_R = np.diff(input_batch.cu_num_logits_np[: num_reqs + 1]).astype(np.int64)
    view = BatchView(slot_R, start_R, end_R, num_rows_R)
    if not record.has_seed:
        return view
    is_seed_R = num_rows_R == 1
    if record.mask_group == "block_causal":
        is_seed_R &= view.known_R % params.block_length.np[slot_R] == 0
    is_draft_R = is_verify_R = None
    if record.self_speculates:
        speculates_R = (params.policy.np[slot_R] == SELF_SPECULATION) & (num_rows_R > 0)
        speculates_R &= ~is_seed_R
        is_verify_R = speculates_R & is_drafted_S[slot_R]
        is_draft_R = speculates_R & ~is_verify_R
    return BatchView(slot_R, start_R, end_R, num_rows_R, is_seed_R, is_draft_R, is_verify_R)
