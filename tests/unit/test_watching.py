"""Channels of frames: bounded, counted, and never waited for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="refusals are vLLM's")

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.frames import KEY, Frame
from vllm_diffusion.server import watching
from vllm_diffusion.server.frame_events import channel_of, with_frames
from vllm_diffusion.server.watching import Channel, is_frame


def frame(step: int, *, is_final: bool = False) -> Frame:
    return Frame.unpack([0, step, 5, is_final, [[7, 8], [1, 2], [0, 1], [0.5, 0.9], [0.2, 0.1]]])


def output(channel: int, step: int) -> Any:
    packed = [0, step, 5, False, [[7], [1], [0], [0.5], [0.2]]]
    return SimpleNamespace(kv_transfer_params={KEY: [channel, packed]})


def request(**fields: Any) -> Any:
    options = SimpleNamespace(diffusion_frames=fields.pop("frames", None))
    said = {"stream_options": options, "n": 1, "model": "m", "messages": [], **fields}
    return SimpleNamespace(**said)


def test_a_full_channel_drops_the_oldest_and_says_so() -> None:
    channel = Channel(most=2)
    for step in range(5):
        channel.put(frame(step))
    assert [(f.step, n) for f, n in channel.take()] == [(3, 3), (4, 0)]
    channel.put(frame(5))
    assert [(f.step, n) for f, n in channel.take()] == [(5, 0)]
    channel.close()


def test_a_channel_of_one_frame_counts_them_all() -> None:
    channel = Channel(most=1)
    for step in range(4):
        channel.put(frame(step))
    assert [(f.step, n) for f, n in channel.take()] == [(3, 3)]
    channel.close()


def test_a_rate_leaves_out_all_but_the_last_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    channel = Channel(rate=10)
    for step, seconds in enumerate([0, 0.05, 0.04, 0.02, 0.01]):
        now[0] += seconds
        channel.put(frame(step, is_final=step == 4))
    # The fourth comes 110 ms after the first.
    assert [(f.step, n) for f, n in channel.take()] == [(0, 0), (3, 2), (4, 0)]
    channel.close()


def test_outputs_that_are_frames_reach_their_channel_alone() -> None:
    channel, other = Channel(), Channel()
    assert is_frame(output(channel.number, 3), "chatcmpl-1")
    assert [f.step for f, _ in channel.take()] == [3]
    assert channel.request_id == "chatcmpl-1"
    assert other.take() == []
    channel.close()
    assert is_frame(output(channel.number, 4), None)  # nobody is there any more
    assert channel.take() == []
    other.close()
    assert not is_frame(SimpleNamespace(kv_transfer_params=None), "a")
    assert not is_frame(SimpleNamespace(kv_transfer_params={"do_remote_decode": True}), "a")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"frames": 0}, "above 0"),
        ({"frames": -1.5}, "above 0"),
        ({"frames": float("nan")}, "above 0"),
        ({"frames": 1001}, "up to 1000"),
        ({"frames": True, "n": 2}, "n=1"),
        ({"frames": True, "prompt": ["a", "b"]}, "one prompt"),
    ],
)
def test_frames_that_cannot_be_had_are_refused(fields: dict[str, Any], said: str) -> None:
    before = len(watching._OPEN)
    with pytest.raises(VLLMValidationError, match=r"stream_options\.diffusion_frames") as refusal:
        channel_of(request(**fields))
    assert said in str(refusal.value)
    assert len(watching._OPEN) == before


@pytest.mark.parametrize("frames", [None, False])
def test_nobody_watches_unasked(frames: bool | None) -> None:
    assert channel_of(request(frames=frames)) is None
    assert channel_of(SimpleNamespace(stream_options=None)) is None


def tokenizer() -> Any:
    return SimpleNamespace(decode=lambda tokens: f"<{tokens[0]}>")


def told(event: str) -> Any:
    return json.loads(event.removeprefix("data: "))


def test_frames_come_before_the_text_that_they_led_to() -> None:
    async def run() -> list[str]:
        channel = channel_of(request(frames=True))
        assert channel is not None

        async def events() -> AsyncGenerator[str, None]:
            for step in range(3):
                channel.put(frame(step))
                await asyncio.sleep(0)
                yield f"data: {step}\n\n"

        return [event async for event in with_frames(events(), channel, request(), tokenizer())]

    events = asyncio.run(run())
    steps = [
        told(event)["diffusion_frame"]["step"] if "frame" in event else told(event)
        for event in events
    ]
    assert steps == [0, 0, 1, 1, 2, 2]
    chunk = told(events[0])
    assert chunk["choices"] == [] and chunk["object"] == "chat.completion.chunk"
    assert chunk["diffusion_frame"] == {
        "block": 0,
        "step": 0,
        "start": 5,
        "final": False,
        "dropped": 0,
        "tokens": ["<7>", "<8>"],
        "states": ["masked", "accepted"],
        "probs": [0.5, 0.9],
        "others": ["<1>", "<2>"],
        "other_probs": [0.2, 0.1],
    }


def test_a_stream_that_is_left_closes_its_channel() -> None:
    async def run() -> tuple[int, list[str]]:
        channel, closed = Channel(), []

        async def events() -> AsyncGenerator[str, None]:
            try:
                while True:
                    yield "data: x\n\n"
                    await asyncio.sleep(0.01)
            finally:
                closed.append("closed")

        stream = with_frames(events(), channel, request(), tokenizer())
        await anext(stream)
        await stream.aclose()
        return watching._OPEN.get(channel.number, 0), closed

    assert asyncio.run(run()) == (0, ["closed"])
