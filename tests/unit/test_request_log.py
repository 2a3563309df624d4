"""The end of a request as a line of log and as attributes of a trace's span."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="outputs are vLLM's")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from vllm.tracing import otel
from vllm.v1.engine import EngineCoreOutput, FinishReason, output_processor
from vllm.v1.metrics.stats import RequestSpecDecodeMetrics

from vllm_diffusion.compat.metrics import span_attributes
from vllm_diffusion.counters import RequestCounts
from vllm_diffusion.server import outputs, request_log, spans

COUNTS = RequestCounts(canvas_length=8, widths=[0, 8, 8, 8], emitted=[0, 0, 8, 4])
STATE = SimpleNamespace(external_req_id="chatcmpl-7", prompt_len=5, queue=None)


def ended(counts: RequestCounts | None = COUNTS, reason: Any = FinishReason.STOP) -> Any:
    record = None if counts is None else RequestSpecDecodeMetrics(**counts.encoded())
    return EngineCoreOutput("7", [1], finish_reason=reason, spec_decode_metrics=record)


def processed(output: Any, original: Any, **processor: Any) -> None:
    owner: Any = SimpleNamespace(request_states={"7": STATE}, **processor)
    outputs.process_isolated(original, owner, [output])


def nothing(*_: Any) -> Any:
    return SimpleNamespace(request_outputs=[], reqs_to_abort=[])


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged; vLLM's loggers do not pass on to pytest's."""
    told: list[str] = []
    logger = SimpleNamespace(info=lambda text, *values: told.append(text % values))
    monkeypatch.setattr(request_log, "logger", logger)
    return told


def test_a_line_says_forwards(lines: list[str]) -> None:
    processed(ended(), nothing, **{request_log.WANTED: True})
    (told,) = lines
    for part in ("chatcmpl-7", "5 tokens of prompt", "12 of text in 4 forwards", "3.00 tokens per"):
        assert part in told


@pytest.mark.parametrize(
    ("output", "processor"),
    [
        (ended(), {}),
        (ended(reason=None), {request_log.WANTED: True}),
        (ended(None), {request_log.WANTED: True}),
    ],
)
def test_no_line(lines: list[str], output: Any, processor: dict[str, Any]) -> None:
    processed(output, nothing, **processor)
    assert not lines


def test_lines_are_the_owners_to_ask_for() -> None:
    for asks in (True, False):
        client = SimpleNamespace(output_processor=SimpleNamespace(), log_requests=asks)
        request_log.ask_for_lines(client)
        assert getattr(client.output_processor, request_log.WANTED, False) is asks


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    monkeypatch.setattr(otel.trace, "get_tracer", provider.get_tracer)
    monkeypatch.setattr(output_processor, "instrument_manual", output_processor.instrument_manual)
    span_attributes()
    return made


def trace(*_: Any) -> Any:
    output_processor.instrument_manual(
        span_name="llm_request", start_time=1, attributes={"gen_ai.usage.prompt_tokens": 5}
    )
    return nothing()


def test_a_span_has_forwards_beside_vllms_numbers(exporter: InMemorySpanExporter) -> None:
    processed(ended(), trace)
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes or {}) == {
        "gen_ai.usage.prompt_tokens": 5,
        "gen_ai.diffusion.denoising_steps": 3,
        "gen_ai.diffusion.prefill_forwards": 1,
        "gen_ai.diffusion.forwards": 4,
        "gen_ai.diffusion.tokens_per_forward": 3.0,
        "gen_ai.diffusion.approximate_forwards": 0,
    }


def test_spans_of_other_models_stay(exporter: InMemorySpanExporter) -> None:
    processed(ended(None), trace)
    trace()
    assert all(
        dict(span.attributes or {}) == {"gen_ai.usage.prompt_tokens": 5}
        for span in exporter.get_finished_spans()
    )
    assert spans.ENDING.get() is None
