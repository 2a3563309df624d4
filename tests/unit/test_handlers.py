"""What is not admitted, and the warning of a response: when there is one, where in a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the handlers are vLLM's")

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.family.rows import FAMILIES
from vllm_diffusion.request.parsed import parse
from vllm_diffusion.request.plan import DecodePlan, make_plan
from vllm_diffusion.server.acceptance import taken
from vllm_diffusion.server.handlers import expected, limit_output, wrap

GENERIC = (
    "diffusion_kv_cache='prefix': forwards may have reused approximate K and V, so the text may "
    "differ from the exact one"
)
PREFIX = {"diffusion_kv_cache": "prefix"}
DONE = "data: [DONE]\n\n"


def admit_all(asked: Any) -> None:
    pass


def plan(architecture: str = "LLaDAModelLM", **options: Any) -> DecodePlan:
    return make_plan(
        FAMILIES[architecture],
        mask_id=1,
        block_length=None,
        vocab_size=100,
        generation={},
        options=options,
    )


@pytest.mark.parametrize(
    ("options", "fields", "warning"),
    [
        ({}, None, None),
        ({}, {"other": 1}, None),
        ({}, PREFIX, GENERIC),
        ({}, {"diffusion_kv_cache": "dual"}, GENERIC.replace("prefix", "dual")),
        ({"kv_cache": "prefix"}, None, GENERIC),
        ({"kv_cache": "prefix"}, {"diffusion_threshold": 0.5}, GENERIC),
        ({"kv_cache": "prefix"}, {"diffusion_kv_cache": "exact"}, None),
    ],
)
def test_fields_and_defaults_decide(options: Any, fields: Any, warning: str | None) -> None:
    assert expected(parse(fields, plan(**options))) == warning


def test_exact_families_never_warn() -> None:
    assert expected(parse(None, plan("DreamForCausalLM"))) is None


def test_what_was_not_taken_is_not_warned_of() -> None:
    assert expected(None) is None


class Response:
    """A response model of vLLM's, as far as it is looked at."""

    choices = ("a choice",)

    def __init__(self, diffusion: dict[str, Any] | None = None) -> None:
        self.metrics = metrics_of(diffusion)

    def model_dump(self, include: set[str]) -> dict[str, Any]:
        assert include == {"metrics"}
        return {"metrics": self.metrics}


def request(xargs: Any = None, **extra: Any) -> Any:
    """A request model of vLLM's, likewise."""
    return SimpleNamespace(vllm_xargs=xargs, model_extra=extra)


def metrics_of(diffusion: dict[str, Any] | None) -> dict[str, Any] | None:
    return diffusion and {"speculative_decoding": {"diffusion": diffusion}}


def answer(response: Any, fields: Any = PREFIX) -> Any:
    """What becomes of a handler's response."""

    async def handler(asked: Any) -> Any:
        taken(parse(asked.vllm_xargs, plan()))
        return response

    async def run() -> Any:
        made = await wrap(handler, admit_all)(request(fields))
        return [event async for event in made] if isinstance(made, AsyncGenerator) else made

    return asyncio.run(run())


def test_a_whole_response() -> None:
    assert answer(Response()).warning == GENERIC
    assert answer(Response({"warning": "3 of 4"})).warning == "3 of 4"
    assert "warning" not in vars(answer(Response({"warning": None})))
    assert "warning" not in vars(answer(Response(), fields=None))


def test_an_error_is_left_alone() -> None:
    error = SimpleNamespace(error="no such model")
    assert vars(answer(error)) == {"error": "no such model"}


def event(finish: str | None = None, **fields: Any) -> str:
    """A chunk with one choice."""
    chunk = {"id": "é", "choices": [{"index": 0, "finish_reason": finish}]} | fields
    return f"data: {json.dumps(chunk)}\n\n"


def stream(*events: str) -> AsyncGenerator[str, None]:
    async def made() -> AsyncGenerator[str, None]:
        for each in events:
            yield each

    return made()


def warnings_in(events: list[str]) -> list[str | None]:
    assert events[-1] == DONE
    return [json.loads(each.removeprefix("data: ")).get("warning") for each in events[:-1]]


def test_the_last_chunk_of_a_stream() -> None:
    events = [event(), event(), event("stop")]
    answered = answer(stream(*events, DONE))
    assert answered[:2] == events[:2]
    assert warnings_in(answered) == [None, None, GENERIC]
    assert "é" in answered[2]


def test_usage_comes_last() -> None:
    usage = event(choices=[], usage={})
    assert warnings_in(answer(stream(event("stop"), usage, DONE))) == [None, GENERIC]
    counted = event(choices=[], metrics=metrics_of({"warning": "3 of 4"}))
    assert warnings_in(answer(stream(event("stop"), counted, DONE))) == [None, "3 of 4"]
    not_due = [event("stop"), event(choices=[], metrics=metrics_of({"warning": None})), DONE]
    assert answer(stream(*not_due)) == not_due


def test_several_answers_have_one_warning() -> None:
    events = [event("stop"), event(), event("length")]
    assert warnings_in(answer(stream(*events, DONE))) == [None, None, GENERIC]


def test_a_stream_that_fails_is_left_alone() -> None:
    failed = [event(), 'data: {"error": {"message": "no", "code": "server_error"}}\n\n', DONE]
    assert answer(stream(*failed)) == failed
    cut = [event("stop")]
    assert answer(stream(*cut)) == cut


def test_streams_of_exact_requests_are_vllms_own() -> None:
    events = [event(), event("stop"), DONE]
    assert answer(stream(*events), fields=None) == events


def test_only_what_may_be_last_waits() -> None:
    """A chunk goes out as soon as it is there, and leaving closes vLLM's own stream."""
    sent: list[str] = []

    async def made() -> AsyncGenerator[str, None]:
        try:
            for each in (event(), event()):
                sent.append(each)
                yield each
        finally:
            sent.append("closed")

    async def handler(asked: Any) -> Any:
        taken(parse(asked.vllm_xargs, plan()))
        return made()

    async def run() -> None:
        events = await wrap(handler, admit_all)(request(PREFIX))
        assert await anext(events) == event()
        assert sent == [event()]
        await events.aclose()

    asyncio.run(run())
    assert sent == [event(), "closed"]


def test_what_is_not_admitted_is_not_served() -> None:
    served: list[Any] = []

    async def handler(asked: Any) -> Any:
        served.append(asked)

    def admit(asked: Any) -> None:
        if asked.model_extra:
            raise VLLMValidationError("no")

    asyncio.run(wrap(handler, admit)(request()))
    assert len(served) == 1
    with pytest.raises(VLLMValidationError, match="no"):
        asyncio.run(wrap(handler, admit)(request(other=1)))
    assert len(served) == 1


@pytest.mark.parametrize(
    ("architecture", "shipped", "served"),
    [
        ("DreamModel", {"top_p": 0.9}, {"top_p": 0.9, "max_tokens": 512}),
        ("DreamModel", {"max_tokens": 99}, {"max_tokens": 99}),
        ("DreamForCausalLM", {}, {}),
    ],
)
def test_full_attention_has_a_length_of_output(
    architecture: str, shipped: dict[str, Any], served: dict[str, Any]
) -> None:
    limit_output(shipped, plan(architecture))
    assert shipped == served
