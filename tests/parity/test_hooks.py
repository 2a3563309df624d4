"""vLLM calls every method that ours override, in one engine that serves a few requests.

A hook that is no longer called fails nowhere: it gives wrong tokens, or memory that grows.
``tests/unit/test_contacts.py`` reads the same off vLLM's source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.parity.engines import EnginePool
from vllm_diffusion.compat import CONTACTS

SCHEDULER = "vllm.v1.core.sched.scheduler.Scheduler."
STATE_HOOKS = (
    "add_request",
    "remove_request",
    "apply_staged_writes",
    "prepare_inputs",
    "prepare_attn",
)


def hooks_of_the_scheduler() -> list[str]:
    """Methods among the targets of overrides."""
    return [
        target.removeprefix(SCHEDULER)
        for contact in CONTACTS
        if contact.kind == "override"
        for target in contact.targets
        if target.startswith(SCHEDULER)
    ]


def counted(owner: Any, name: str, calls: Counter[str], patch: pytest.MonkeyPatch) -> None:
    method: Callable[..., Any] = getattr(owner, name)

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return method(*args, **kwargs)

    patch.setattr(owner, name, counting)


def test_vllm_calls_every_hook(engines: EnginePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight requests whose pages run out, so that some are preempted."""
    engine = engines(8, max_model_len=128, num_gpu_blocks_override=9)
    state = engine.core.model_executor.driver_worker.worker.model_runner.model_state
    hooks = [name for name in hooks_of_the_scheduler() if callable(getattr(engine.scheduler, name))]
    assert "_mamba_block_aligned_split" in hooks
    assert {name for name in hooks if name not in vars(type(engine.scheduler))} == {
        "get_request_counts"
    }
    calls: Counter[str] = Counter()
    for name in hooks:
        counted(engine.scheduler, name, calls, monkeypatch)
    for name in STATE_HOOKS:
        counted(state, name, calls, monkeypatch)
    for number in range(8):
        engine.add(str(number), [20 + number] * (10 + 3 * number), max_tokens=60, ignore_eos=True)
    engine.drain()
    assert engine.preempted
    never = {name for name in (*hooks, *STATE_HOOKS) if not calls[name]}
    # With one call of the worker a step, the engine core asks for no bitmask; it may in between.
    assert never <= {"get_grammar_bitmask"}
    # Once a request and step: those that wait as well as those that run.
    assert calls["_mamba_block_aligned_split"] >= sum(
        outcome.steps + outcome.prefills
        for number in range(8)
        for outcome in engine.outcomes(str(number))
    )
