"""Faults that a server of a test is started with, by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any


def broken_automaton() -> None:
    """What is compiled for a constraint that says "broken" allows other texts."""
    from vllm_diffusion.structured.compiled import Compiled
    from vllm_diffusion.structured.constraint import Constraint
    from vllm_diffusion.structured.service import _Process

    right = _Process.compile

    def compile(self: _Process, constraint: Constraint) -> Compiled:
        if "broken" in constraint.spec:
            spec = constraint.spec.replace("[a-z]", "[0-9]").replace('"integer"', '"boolean"')
            constraint = replace(constraint, spec=spec)
        return right(self, constraint)

    _Process.compile = compile  # type: ignore[method-assign]


STEP_SECONDS = 0.005


def slow_steps() -> None:
    """Each step takes longer, so that a long request still runs when its client has seen a part of
    it: on two busy cores the tiny model is done before the API server has sent its first block."""
    from vllm_diffusion.scheduler.scheduler import BlockDiffusionScheduler

    right = BlockDiffusionScheduler.schedule

    def schedule(self: BlockDiffusionScheduler, *args: Any, **kwargs: Any) -> Any:
        time.sleep(STEP_SECONDS)
        return right(self, *args, **kwargs)

    BlockDiffusionScheduler.schedule = schedule  # type: ignore[method-assign]


POISON = [77, 78, 79, 77]
"""A prompt on which the first rank of a pipeline fails."""


def first_rank_fails() -> None:
    """On a certain prompt, in the forward; steps are slow, so that others are in the middle."""
    from vllm.distributed.parallel_state import get_pp_group

    from vllm_diffusion.worker.model_state import BlockDiffusionState

    slow_steps()
    right = BlockDiffusionState.add_request

    def add_request(self: BlockDiffusionState, slot: int, new: Any) -> None:
        if get_pp_group().is_first_rank and new.prompt_token_ids == POISON:
            raise RuntimeError("the first rank fails")
        right(self, slot, new)

    BlockDiffusionState.add_request = add_request  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    "broken automaton": broken_automaton,
    "slow steps": slow_steps,
    "first rank fails": first_rank_fails,
}
