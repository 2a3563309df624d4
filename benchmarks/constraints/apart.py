"""Work in a process of its own, and the memory that it took."""

from __future__ import annotations

import ctypes
import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def peak() -> int:
    """Bytes of this process, at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _child(work: Callable[[], Any], pipe: Connection) -> None:
    before = peak()
    result = work()
    pipe.send((result, peak() - before))


def apart(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work gives, and MiB over those of this process.

    The process is forked, so the vocabulary is there and not counted.
    """
    ctypes.CDLL(None).malloc_trim(0)  # memory kept by the allocator would be used unseen
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_child, args=(work, there))
    process.start()
    there.close()
    try:
        result, size = here.recv()
    finally:
        process.join()
    return result, size / (1 << 20)
