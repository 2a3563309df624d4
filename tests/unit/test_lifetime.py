"""Ranks of one engine end together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection

import pytest

pytest.importorskip("vllm", reason="the module logs as vLLM does")

from vllm_diffusion.isolation import lifetime

FORK = multiprocessing.get_context("fork")
MORE = 1.0
"""Seconds beyond what ranks get to end by themselves."""


def stand() -> None:
    """A rank that waits for another one."""
    time.sleep(60)


def be_an_engine(said: Connection) -> None:
    """Tell the ids of two ranks, and how they have ended once the second one has."""
    ranks = [FORK.Process(target=stand, name=f"VllmWorker-{n}", daemon=True) for n in range(2)]
    for rank in ranks:
        rank.start()
    lifetime.end_ranks_together()
    said.send([rank.pid for rank in ranks])
    ranks[1].join()
    ranks[0].join(lifetime.RANK_SECONDS + MORE)
    said.send([rank.exitcode for rank in ranks])


@pytest.mark.parametrize(
    ("name", "first"), [("EngineCore_DP0", -9), ("MainProcess", None)], ids=["ours", "users"]
)
def test_a_killed_rank_takes_the_others_with_it(name: str, first: int | None) -> None:
    """In an engine core. In a process of the user's nothing is killed."""
    told, said = FORK.Pipe()
    engine = FORK.Process(target=be_an_engine, args=(said,), name=name)
    engine.start()
    os.kill(told.recv()[1], signal.SIGKILL)
    assert told.poll(30)
    assert told.recv() == [first, -9]
    engine.join(30)
    assert engine.exitcode == 0


def test_ranks_that_were_asked_to_end_are_left_alone() -> None:
    seconds = (0.0, lifetime.RANK_SECONDS + MORE)
    ranks = [FORK.Process(target=time.sleep, args=(each,)) for each in seconds]
    for rank in ranks:
        rank.start()
    lifetime._end_others(ranks)
    for rank in ranks:
        rank.join(10)
    assert [rank.exitcode for rank in ranks] == [0, 0]
