"""Hooks of vLLM's scheduler that are ours, under each form that vLLM gives them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the scheduler is vLLM's")

from vllm.v1.core.sched.scheduler import Scheduler

from vllm_diffusion.isolation.failures import MESSAGES, Failure
from vllm_diffusion.scheduler.scheduler import BlockDiffusionScheduler


def scheduler_of(**attributes: Any) -> BlockDiffusionScheduler:
    """One without an engine."""
    made = BlockDiffusionScheduler.__new__(BlockDiffusionScheduler)
    vars(made).update(attributes)
    return made


@pytest.mark.parametrize(
    ("resume_at", "computed", "expected"),
    [({"one": 32}, 64, 32), ({"one": 0}, 64, 0), ({"two": 32}, 64, 64), ({"one": 32}, 0, 0)],
    ids=["final up to there", "nothing is final", "no canvas", "preempted"],
)
def test_pages_are_final_before_they_can_be_shared(
    resume_at: dict[str, int], computed: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM 0.33 shares pages up to ``num_computed_tokens`` as soon as this hook has returned."""

    def base(self: Any, request: Any, tokens: list[int], **_: Any) -> tuple[list[int], bool]:
        assert request.num_computed_tokens == computed
        return tokens[:1], True

    monkeypatch.setattr(Scheduler, "_update_request_with_output", base)
    request: Any = SimpleNamespace(request_id="one", num_computed_tokens=computed)
    scheduler = scheduler_of(_resume_at=resume_at)
    assert scheduler._update_request_with_output(request, [5, 6], is_stale=False) == ([5], True)
    assert request.num_computed_tokens == expected


@pytest.mark.parametrize("table", [set(), {}], ids=["vLLM 0.32", "vLLM 0.33"])
def test_failed_requests_are_in_vllms_table(table: Any) -> None:
    scheduler = scheduler_of(
        grammar_compile_error_reqs=table,
        requests=dict.fromkeys(("failed", "doomed", "fine")),
        doomed={"doomed": Failure.PARAMETERS},
    )
    output: Any = SimpleNamespace(num_scheduled_tokens={"failed": 4, "doomed": 4, "fine": 4})
    rows = {"failed": 0, "doomed": 1, "fine": 2}
    emitted = [[int(Failure.DEAD_END)], [7], [8]]
    answer: Any = SimpleNamespace(sampled_token_ids=emitted, req_id_to_index=rows)
    failed = scheduler._take_failures(output, answer)
    assert failed == {
        "failed": MESSAGES[Failure.DEAD_END],
        "doomed": MESSAGES[Failure.PARAMETERS],
    }
    assert {*table} == {"failed", "doomed"}
    # An error of vLLM's own would take the place of ours in the front end.
    assert not isinstance(table, dict) or {*table.values()} == {None}
    assert emitted == [[], [], [8]]
