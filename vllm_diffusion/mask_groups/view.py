"""What each request of a batch does in a step, as arrays on the host.

The worker's side of ``spans``: the phase follows from the query that the
scheduler chose (``batch/view.py`` reads it off the runner's batch), and the
numbers here say where its canvas is. Shape suffix: R requests in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BatchView:
    """Positions are counted from each request's first token."""

    slot_R: NDArray[np.int64]
    start_R: NDArray[np.int64]
    """Where the query starts: K and V before it are final (or cached, by choice)."""
    end_R: NDArray[np.int64]
    num_rows_R: NDArray[np.int64]
    """Canvas positions that have logits; 0 where the query is prompt alone."""
    query_start_loc: NDArray[np.int32]
    """(R + 1,) borders of the queries in the batch's tokens."""
    is_seed_R: NDArray[np.bool_] | None = None
    """The query ends with one canvas position, whose token is the autoregressive one."""
    is_draft_R: NDArray[np.bool_] | None = None
    is_verify_R: NDArray[np.bool_] | None = None

    @property
    def known_R(self) -> NDArray[np.int64]:
        """Known tokens, where the query ends with the canvas: not for full attention."""
        known: NDArray[np.int64] = self.end_R - self.num_rows_R
        return known
