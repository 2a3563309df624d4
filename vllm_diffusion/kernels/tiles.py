"""Rows of logits in parts, so that what is made of them stays within a bound of bytes."""

from __future__ import annotations

from collections.abc import Iterator

TILE_BYTES = 256 << 20
"""What work on copies of rows may take at a time, one row excepted."""
ENTRY_BYTES = 64
"""At most so many bytes are alive for each entry of a part: ``tests/unit/test_tiles.py``."""


def rows_at_a_time(vocab_size: int) -> int:
    """At least 1."""
    return max(TILE_BYTES // (ENTRY_BYTES * vocab_size), 1)


def tiles(num_rows: int, vocab_size: int) -> Iterator[slice]:
    """Parts of the rows, in order."""
    size = rows_at_a_time(vocab_size)
    for begin in range(0, num_rows, size):
        yield slice(begin, min(begin + size, num_rows))
