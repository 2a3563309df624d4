"""Where a guided request's second sequence lies: in the same query, from the next page border on.

``worker/guidance.py`` says what guidance is. A guided request's query holds the sequence twice, the
second time with its prompt masked, so that each has K and V of its own in the request's pages. What
lies between them is computed and never read.

Shape suffixes: R requests of the batch, S sequences of attention, T tokens of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vllm_diffusion.mask_groups.sequences import VirtualSequences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vllm_diffusion.mask_groups.view import BatchView


def second_start(length: Any, page: int) -> Any:
    """Where the unconditional sequence starts in a guided query, int or array: the next page."""
    return -(-length // page) * page


def longest_guided(max_model_len: int, page: int) -> int:
    """The longest sequence that fits twice."""
    return max_model_len // page // 2 * page


def split_guided(
    query_start_loc: NDArray[np.int32],
    length_R: NDArray[np.int64],
    is_guided_R: NDArray[np.bool_],
    page: int,
) -> tuple[VirtualSequences, NDArray[np.int64]]:
    """Each guided request as its two sequences and the gap between them.

    Args:
        query_start_loc: int32 (R + 1,), borders of the requests' queries.
        length_R: int64 (R,), length of one sequence, all of which has K and V.
        is_guided_R: bool (R,).
        page: tokens of a KV page.

    Returns:
        The sequences, and int64 (S,) by how many pages each one's block table starts later.
    """
    start_R = query_start_loc[:-1].astype(np.int64)
    second_R = second_start(length_R, page)
    zero_R = np.zeros_like(length_R)
    # Three pieces a request; those that do not exist are empty and left out.
    pieces = np.stack(
        (
            np.where(is_guided_R, length_R, np.diff(query_start_loc)),
            np.where(is_guided_R, second_R - length_R, zero_R),
            np.where(is_guided_R, length_R, zero_R),
        ),
        axis=1,
    )
    keys = np.stack((length_R, second_R - length_R, length_R), axis=1)
    shift = np.stack((zero_R, zero_R, second_R // page), axis=1)
    exists = pieces > 0
    request_S = np.repeat(np.arange(len(length_R)), 3)[exists.ravel()]
    lengths = pieces[exists]
    borders = np.concatenate(([start_R[0]], start_R[0] + np.cumsum(lengths))).astype(np.int32)
    sequences = VirtualSequences(
        query_start_loc=borders,
        seq_lens=keys[exists].astype(np.int32),
        request_S=request_S,
        max_query_len=int(lengths.max()),
        max_seq_len=int(keys[exists].max()),
    )
    return sequences, shift[exists]


def unconditional_offset(view: BatchView, second_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """What to take off the positions of the batch's tokens, int64 (T,).

    ``second_R`` is where the second sequence starts, beyond any query if there is none.
    """
    length_R = view.end_R - view.start_R
    request = np.repeat(np.arange(len(length_R)), length_R)
    first = np.repeat(np.cumsum(length_R) - length_R, length_R)
    position = np.arange(len(request)) - first + view.start_R[request]
    offset: NDArray[np.int64] = np.where(position >= second_R[request], second_R[request], 0)
    return offset
