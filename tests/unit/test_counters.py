"""Records of counts travel whole: through vLLM's own messages, and beside vLLM's own records."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_diffusion.counters import EngineCounts, RequestCounts

FORWARDS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.booleans()), max_size=40)


def request_counts(forwards: list[tuple[int, int, bool]]) -> RequestCounts:
    return RequestCounts(
        canvas_length=300,
        widths=[width for width, _, _ in forwards],
        emitted=[num for _, num, _ in forwards],
        approximate=[index for index, (_, _, flag) in enumerate(forwards) if flag],
    )


@given(FORWARDS)
def test_a_requests_record_is_read_as_it_was_written(forwards: list[tuple[int, int, bool]]) -> None:
    counts = request_counts(forwards)
    fields = counts.encoded()
    assert RequestCounts.decoded(SimpleNamespace(**fields)) == counts
    assert all(
        number >= 0 for values in fields.values() if isinstance(values, list) for number in values
    )


@given(
    st.lists(st.integers(0, 1 << 40), min_size=5, max_size=5),
    st.lists(st.integers(0, 9), min_size=1),
)
def test_an_engines_record_is_read_as_it_was_written(numbers: list[int], blocks: list[int]) -> None:
    steps, positions, tokens, prefill, approximate = numbers
    counts = EngineCounts(
        canvas_length=len(blocks),
        num_denoising_steps=steps,
        num_positions=positions,
        num_tokens=tokens,
        num_prefill_forwards=prefill,
        num_approximate_forwards=approximate,
        blocks_by_steps=blocks,
    )
    assert EngineCounts.decoded(SimpleNamespace(**counts.encoded())) == counts


def test_a_written_record_does_not_change_any_more() -> None:
    counts = RequestCounts(canvas_length=4, widths=[4], emitted=[0])
    fields = counts.encoded()
    counts.widths.append(4)
    counts.emitted.append(4)
    assert (fields["per_step_drafted"], fields["per_step_accepted"]) == ([4], [0])


def sent(message: Any) -> Any:
    """What the front end makes of an engine's message."""
    serial = pytest.importorskip("vllm.v1.serial_utils", reason="the messages are vLLM's")
    from vllm.v1.engine import EngineCoreOutputs

    return serial.MsgpackDecoder(EngineCoreOutputs).decode(serial.MsgpackEncoder().encode(message))


def message(record: Any, stats: Any) -> Any:
    from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
    from vllm.v1.metrics.stats import SchedulerStats

    output = EngineCoreOutput(request_id="one", new_token_ids=[7], spec_decode_metrics=record)
    scheduler_stats = SchedulerStats(spec_decoding_stats=stats)
    return EngineCoreOutputs(outputs=[output], scheduler_stats=scheduler_stats)


def test_records_arrive_in_vllms_messages() -> None:
    stats = pytest.importorskip("vllm.v1.metrics.stats", reason="the messages are vLLM's")
    from vllm.v1.spec_decode.metrics import SpecDecodingStats

    of_request = request_counts([(0, 0, False), (4, 0, False), (4, 4, True)])
    of_engine = EngineCounts(
        canvas_length=4,
        num_prefill_forwards=1,
        num_approximate_forwards=1,
        blocks_by_steps=[0, 1, 0, 0],
    )
    made = message(
        stats.RequestSpecDecodeMetrics(**of_request.encoded()),
        SpecDecodingStats(**of_engine.encoded()),
    )
    arrived = sent(made)
    assert RequestCounts.decoded(arrived.outputs[0].spec_decode_metrics) == of_request
    assert EngineCounts.decoded(arrived.scheduler_stats.spec_decoding_stats) == of_engine


@pytest.mark.parametrize("num_tokens", [1, 2, 4])
def test_vllms_own_records_are_not_ours(num_tokens: int) -> None:
    stats = pytest.importorskip("vllm.v1.metrics.stats", reason="the records are vLLM's")
    from vllm.v1.spec_decode.metrics import SpecDecodingStats

    assert RequestCounts.decoded(stats.RequestSpecDecodeMetrics.new(num_tokens)) is None
    assert EngineCounts.decoded(SpecDecodingStats.new(num_tokens)) is None


def test_vllm_has_no_room_for_a_record_of_our_own() -> None:
    """Once this fails, the records can travel as they are."""
    stats = pytest.importorskip("vllm.v1.metrics.stats", reason="the records are vLLM's")
    from vllm.v1.spec_decode.metrics import SpecDecodingStats

    @dataclass
    class OfRequest(stats.RequestSpecDecodeMetrics):  # type: ignore[name-defined, misc]
        num_approximate_forwards: int = 0

    @dataclass
    class OfEngine(SpecDecodingStats):  # type: ignore[misc]
        num_prefill_forwards: int = 0

    made = message(
        OfRequest(num_spec_tokens=4, num_approximate_forwards=3),
        OfEngine(num_spec_tokens=4, num_prefill_forwards=3),
    )
    arrived = sent(made)
    assert not hasattr(arrived.outputs[0].spec_decode_metrics, "num_approximate_forwards")
    assert not hasattr(arrived.scheduler_stats.spec_decoding_stats, "num_prefill_forwards")
