"""Engine core and worker do not outlive the process that started them.

vLLM ends both when it is asked to, and its worker when the engine core has gone. But an engine core
whose API server was killed waits for requests for good, with its worker's memory.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from typing import Any

from vllm.logger import init_logger

logger = init_logger(f"vllm.{__name__}")

GRACE_SECONDS = 3.0
"""How long the process may take to end in its own way."""
NAMES = ("EngineCore", "VllmWorker")
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
    watch = threading.Thread(target=_watch, args=(parent,), daemon=True, name="EndWithParent")
    _watching.append(watch)
    watch.start()


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
    if multiprocessing.current_process().name.startswith("EngineCore"):
        os.kill(os.getpid(), signal.SIGTERM)
