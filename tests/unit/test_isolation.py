"""Errors end the request that they belong to, and no other one."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="errors are vLLM's")

from vllm.exceptions import GenerationError, VLLMValidationError
from vllm.v1.engine import FinishReason, core
from vllm.v1.engine.core import EngineShutdownState

from vllm_diffusion import compat, patching
from vllm_diffusion.isolation.failures import MESSAGES, PREFIX, Failure, Failures, failure_of
from vllm_diffusion.server.ending import shutting_down
from vllm_diffusion.server.outputs import error_of, process_isolated
from vllm_diffusion.structured.matcher import DeadEndError


def raises(error: Exception) -> Any:
    def call() -> None:
        raise error

    return call


def test_a_failure_is_its_slots_alone() -> None:
    failures = Failures()
    assert failures.run(1, "one", lambda: "result") == "result"
    assert failures.run(2, "two", raises(DeadEndError("nothing may come next"))) is None
    assert failures.run(3, "three", raises(IndexError("a defect"))) is None
    assert failures.run(4, "four", raises(TypeError("a field")), Failure.PARAMETERS) is None
    expected = {2: Failure.DEAD_END, 3: Failure.CONSTRAINT, 4: Failure.PARAMETERS}
    assert failures.of_slot == expected
    failures.forget(3)
    failures.forget(9)
    assert 3 not in failures.of_slot


def test_what_ends_a_server_is_not_caught() -> None:
    with pytest.raises(KeyboardInterrupt):
        Failures().run(0, "zero", raises(KeyboardInterrupt()))  # type: ignore[arg-type]


def test_tokens_that_say_so() -> None:
    assert {failure_of([failure]) for failure in Failure} == set(Failure) == set(MESSAGES)
    assert all(failure < 0 for failure in Failure)
    assert [failure_of(tokens) for tokens in ([], [5], [-1], [Failure.DEAD_END, 5])] == [None] * 4


@pytest.mark.parametrize("failure", Failure)
def test_messages_of_failures(failure: Failure) -> None:
    error = error_of(SimpleNamespace(stop_reason=PREFIX + MESSAGES[failure]))
    assert error is not None
    assert MESSAGES[failure] in str(error)
    # A dead end is the client's constraint; the others are ours.
    expected = VLLMValidationError if failure == Failure.DEAD_END else GenerationError
    assert type(error) is expected


@pytest.mark.parametrize("reason", [None, 5, "", "stop", "vllm"])
def test_other_reasons_are_vllms(reason: Any) -> None:
    assert error_of(SimpleNamespace(stop_reason=reason)) is None


class Processor:
    """What is read of vLLM's."""

    def __init__(self, names: list[str], *, has_queues: bool = True) -> None:
        self.request_states = {
            name: SimpleNamespace(
                queue=queue.SimpleQueue() if has_queues else None, external_req_id=name
            )
            for name in names
        }
        self.aborted: list[str] = []

    def abort_requests(self, names: list[str], internal: bool) -> None:
        assert internal
        self.aborted += names
        for name in names:
            del self.request_states[name]


def original(processor: Processor, outputs: list[Any], *args: Any, **kwargs: Any) -> Any:
    """vLLM's: all of them or none."""
    assert (args, kwargs) == ((1.5,), {"stats": "x"})
    for output in outputs:
        if output.request_id.startswith("bad"):
            raise ValueError("a detokenizer's")
    names = [output.request_id for output in outputs]
    stopped = [name for name in names if name.startswith("stop")]
    return SimpleNamespace(request_outputs=names, reqs_to_abort=stopped)


def output(name: str, reason: str | None = None) -> Any:
    return SimpleNamespace(request_id=name, stop_reason=reason, kv_transfer_params=None)


def put(state: Any) -> list[Any]:
    return [state.queue.get() for _ in range(state.queue.qsize())]


def test_an_error_of_one_of_three_ends_that_one() -> None:
    names = ["first", "bad", "stop"]
    processor = Processor(names)
    states = dict(processor.request_states)
    outputs = [output(name) for name in names]
    result = process_isolated(original, processor, outputs, 1.5, stats="x")  # type: ignore[arg-type]
    assert result.request_outputs == ["first", "stop"]
    assert result.reqs_to_abort == ["bad", "stop"]
    assert processor.aborted == ["bad"]
    (error,) = put(states["bad"])
    assert isinstance(error, GenerationError)
    assert "a detokenizer's" in str(error)
    assert put(states["first"]) == put(states["stop"]) == []


def test_the_engines_reason_reaches_the_client_first() -> None:
    processor = Processor(["one", "two"])
    states = dict(processor.request_states)
    outputs = [output("one", PREFIX + MESSAGES[Failure.CONSTRAINT]), output("two", "stop")]
    result = process_isolated(original, processor, outputs, 1.5, stats="x")  # type: ignore[arg-type]
    assert result.request_outputs == ["one", "two"]
    (error,) = put(states["one"])
    assert str(error) == MESSAGES[Failure.CONSTRAINT]
    assert put(states["two"]) == []


def test_outputs_of_requests_that_are_gone() -> None:
    processor = Processor(["one"])
    outputs = [output("bad gone"), output("one"), output("gone", PREFIX + "x")]
    result = process_isolated(original, processor, outputs, 1.5, stats="x")  # type: ignore[arg-type]
    assert result.request_outputs == ["one", "gone"]
    assert processor.aborted == []


def test_without_queues_the_caller_gets_the_error() -> None:
    """Of an ``LLM()``, which has one caller for all requests."""
    processor = Processor(["bad"], has_queues=False)
    with pytest.raises(ValueError, match="a detokenizer's"):
        process_isolated(original, processor, [output("bad")], 1.5, stats="x")  # type: ignore[arg-type]
    assert processor.aborted == ["bad"]


def test_no_outputs() -> None:
    result = process_isolated(original, Processor([]), [], 1.5, stats="x")  # type: ignore[arg-type]
    assert result.request_outputs == []


@pytest.mark.parametrize(
    ("state", "architecture", "is_told"),
    [
        (EngineShutdownState.REQUESTED, "SDARForCausalLM", True),
        (EngineShutdownState.RUNNING, "SDARForCausalLM", False),
        (EngineShutdownState.REQUESTED, "Qwen3ForCausalLM", False),
    ],
    ids=["an engine that ends", "a pause", "another model"],
)
def test_requests_that_are_cut_short_say_so(
    state: EngineShutdownState, architecture: str, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of an engine that ends gets an error, not half a text with a status of 200."""
    monkeypatch.setattr(patching, "ACTIVE", {})
    original = core.EngineCoreProc._send_finish_outputs_to_client
    monkeypatch.setattr(core.EngineCoreProc, "_send_finish_outputs_to_client", original)
    compat.core.cut_requests_say_so()
    said: queue.Queue[Any] = queue.Queue()
    engine = SimpleNamespace(
        shutdown_state=state,
        vllm_config=SimpleNamespace(model_config=SimpleNamespace(architecture=architecture)),
        output_queue=said,
    )
    core.EngineCoreProc._send_finish_outputs_to_client(engine, ["one"], 3, FinishReason.ABORT)
    client, told = said.get_nowait()
    (output,) = told.outputs
    assert (client, output.request_id, output.finish_reason) == (3, "one", FinishReason.ABORT)
    error = error_of(output)
    assert (error is not None) == is_told
    if error is not None:
        assert str(error) == str(shutting_down())
