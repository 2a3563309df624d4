"""Which requests a step leaves out while other steps are under way."""

from __future__ import annotations

import pytest

from vllm_diffusion.scheduler.pipeline import Pipeline


def planned(pipeline: Pipeline, requests: list[str]) -> list[str]:
    """The requests of one step, in their order."""
    pipeline.plan(len(requests))
    step = []
    for request in requests:
        if not pipeline.waits(request):
            pipeline.take()
            step.append(request)
    pipeline.send(step)
    return step


def test_one_rank_leaves_nothing_out() -> None:
    pipeline = Pipeline(1)
    assert planned(pipeline, ["a", "b"]) == planned(pipeline, ["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
@pytest.mark.parametrize("num_requests", [1, 2, 3, 8, 9])
def test_requests_are_dealt_out_to_the_steps(num_ranks: int, num_requests: int) -> None:
    """Each is in one step of those that are under way, and the steps are about as large."""
    pipeline = Pipeline(num_ranks)
    requests = [str(number) for number in range(num_requests)]
    steps = [planned(pipeline, requests) for _ in range(num_ranks)]
    assert sorted(request for step in steps for request in step) == requests
    most = -(-num_requests // num_ranks)
    assert max(map(len, steps)) == most
    assert len([step for step in steps if step]) == -(-num_requests // most)


def test_a_request_goes_on_once_its_step_is_done() -> None:
    pipeline = Pipeline(2)
    first = planned(pipeline, ["a", "b"])
    second = planned(pipeline, ["a", "b"])
    assert (first, second) == (["a"], ["b"])
    assert planned(pipeline, ["a", "b"]) == []
    pipeline.done(first)
    assert planned(pipeline, ["a", "b"]) == ["a"]
