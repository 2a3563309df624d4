"""Processes forked from one that has imported vLLM, which takes longer than most of what they do.

From one of its own, without threads: a fork of the tests' process could wait for them forever.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext


def fork_server() -> ForkServerContext:
    """One for all that this process forks; ``tests.preloaded`` says what it has imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    return context
