"""Processes of one engine end together: none outlives its parent, nor a rank the others.

vLLM ends both when it is asked to, and its worker when the engine core has gone. But an engine core
whose API server was killed waits for requests for good, with its worker's memory. And of several
ranks, those that wait for one that has died get 9 s to end, which they cannot use.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

from vllm.logger import init_logger

logger = init_logger(f"vllm.{__name__}")

GRACE_SECONDS = 3.0
"""How long the process may take to end in its own way."""
LAST_SECONDS = 0.5
"""How long an interpreter of ours may take to tear itself down, when all work is over."""
RANK_SECONDS = 0.5
"""How long ranks may take to end in their own way after one of them has died."""
CORE, RANK = "EngineCore", "VllmWorker"
NAMES = (CORE, RANK)
"""How the names of processes start that vLLM has made for an engine, and for nothing else."""
ACTOR_NAME = "vllm_Worker_"
"""The same of a rank in a Ray actor, whose process Ray has named."""

_watching: list[threading.Thread] = []


def end_with_parent() -> None:
    """Watch the parent from a thread, once a process; not in a process that is the user's own.

    Not by ``PR_SET_PDEATHSIG``: Linux sends it when the *thread* ends that has made the process.
    """
    parent = multiprocessing.parent_process()
    is_ours = multiprocessing.current_process().name.startswith(NAMES)
    if parent is None or not is_ours or _watching:
        return
    atexit.register(_end_soon)
    watch = threading.Thread(target=_watch, args=(parent,), daemon=True, name="EndWithParent")
    _watching.append(watch)
    watch.start()


def _end_soon() -> None:
    """An engine's work is done when its interpreter ends, and others wait for the process."""
    ray = sys.modules.get("ray")
    # Ray's own end takes its time, and takes actors with it.
    if ray is None or not ray.is_initialized():
        signal.setitimer(signal.ITIMER_REAL, LAST_SECONDS)


def end_ranks_together() -> None:
    """Watch this engine core's ranks from a thread; not in a process that is the user's own.

    That one may have several engines, whose ranks have the same names.
    """
    ranks = [each for each in multiprocessing.active_children() if each.name.startswith(RANK)]
    if not multiprocessing.current_process().name.startswith(CORE) or len(ranks) < 2:
        return
    threading.Thread(
        target=_end_others, args=(ranks,), daemon=True, name="EndRanksTogether"
    ).start()


def _end_others(ranks: Sequence[BaseProcess]) -> None:
    ended = connection.wait([each.sentinel for each in ranks])
    deadline = time.monotonic() + RANK_SECONDS
    for each in sorted(ranks, key=lambda each: each.sentinel not in ended):
        each.join(max(0.1, deadline - time.monotonic()))
        # One that was asked to end: then vLLM waits for the others.
        if _exit_code(each) in (0, -signal.SIGALRM):
            return
    for each in ranks:
        # It stands in a collective operation of the one that is gone, where no signal reaches it.
        each.kill()


def _exit_code(process: BaseProcess) -> int | None:
    """Of a process for which vLLM waits as well, in another thread: one of both learns it first."""
    for _ in range(10):
        if not process.is_alive() and process.exitcode is not None:
            return process.exitcode
        time.sleep(0.01)
    return None


def end_after_failure() -> None:
    """End this process, whose work has failed, while others wait for it; not a user's own.

    vLLM logs the exception that is being handled only where its own loop gets it.

    Raises:
        SystemExit: always, in a process that vLLM has made.
    """
    if not (multiprocessing.current_process().name.startswith(NAMES) or _is_ray_rank()):
        return
    logger.exception("A step failed on this rank, whose answer nobody reads: it ends.")
    # Should an interpreter that is tearing itself down wait for another rank.
    signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
    raise SystemExit(1)


def _is_ray_rank() -> bool:
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    return context.get_actor_id() is not None and (context.get_actor_name() or "").startswith(
        ACTOR_NAME
    )


def _watch(parent: Any) -> None:
    parent.join()
    # The kernel's own end for it: an interpreter that is tearing itself down, which takes a worker
    # up to a quarter of a minute, runs no thread any more.
    signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
    # The engine core tears its workers down, which takes a step that is under way to its end.
    if multiprocessing.current_process().name.startswith(CORE):
        os.kill(os.getpid(), signal.SIGTERM)
