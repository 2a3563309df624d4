"""Where a sequence of tokens stands in the text of a request."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vllm_diffusion.engine.cpu.ragged import steps

# Looks tokens up: places [num_rows, n] in each row's text -> token ids.
TokenAt = Callable[[np.ndarray], np.ndarray]


def text_lookup(
    all_token_ids: np.ndarray,
    input_ids: np.ndarray,
    req: np.ndarray,
    rows: np.ndarray,
    num_drafts: np.ndarray,
    total_len: np.ndarray,
) -> TokenAt:
    """Return a look-up of places ``[num_rows, n]`` in committed tokens and drafts.

    Row 0 of a request holds its last committed token, so the first draft is in the row after it.
    Places outside the text give an arbitrary token.
    """
    first_draft = (rows - num_drafts + 1)[:, None]
    total = total_len[:, None]
    last_draft = num_drafts[:, None] - 1
    owner = req[:, None]

    def token_at(places: np.ndarray) -> np.ndarray:
        committed = all_token_ids[owner, np.clip(places, 0, total - 1)]
        drafts = np.clip(places - total, 0, last_draft)
        return np.where(places < total, committed, input_ids[first_draft + drafts - (drafts < 0)])

    return token_at


def last_match(
    token_at: TokenAt, ids: np.ndarray, first: np.ndarray, end: np.ndarray, default: np.ndarray
) -> np.ndarray:
    """Return per row the last place in ``[first, end)`` where `ids` stand, else `default`."""
    width = int((end - first).max()) - len(ids) + 1
    if width <= 0:
        return default
    places = first[:, None] + steps(width)
    is_match = places + len(ids) <= end[:, None]
    for j, token in enumerate(ids.tolist()):  # a marker is a few tokens
        is_match &= token_at(places + j) == token
    found = np.where(is_match, places, -1).max(axis=1)
    return np.where(found >= 0, found, default)


def newest_markers(
    known: np.ndarray, start_ids: np.ndarray, end_ids: np.ndarray, block: int
) -> tuple[int, int]:
    """Return the last start and end marker of a prompt, -1 where there is none.

    The kernel walks back block by block and stops at the first one with a marker: a marker of the
    other kind further back stays unseen. Only their order matters, but the cache has to be equal.
    """
    last_start, last_end = _last_in(known, start_ids), _last_in(known, end_ids)
    newest = len(known) - 1
    start_block, end_block = (newest - last_start) // block, (newest - last_end) // block
    if last_start >= 0 and last_end >= 0 and start_block != end_block:
        return (last_start, -1) if start_block < end_block else (-1, last_end)
    return last_start, last_end


def _last_in(known: np.ndarray, ids: np.ndarray) -> int:
    num_places = len(known) - len(ids) + 1
    if num_places <= 0:
        return -1
    is_match = known[:num_places] == ids[0]
    for j in range(1, len(ids)):
        is_match &= known[j : j + num_places] == ids[j]
    places = is_match.nonzero()[0]
    return int(places[-1]) if len(places) else -1
