"""Streams come block by block and say what the whole answer says; leaving one early is fine."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.server.client import Client, diffusion_of, together
from tests.server.counters import Counters, eventually
from tests.server.limits import BLOCK_LENGTH, MAX_SEQS

PROMPT = [20, 21, 22, 23, 24]


def chunks_of(stream: Any) -> list[dict[str, Any]]:
    return [chunk.to_dict() for chunk in stream]


@pytest.mark.parametrize("prompt_length", [1, BLOCK_LENGTH - 1, BLOCK_LENGTH, BLOCK_LENGTH + 3])
def test_a_chunk_is_a_block(client: Client, prompt_length: int) -> None:
    """Or several, where they are ready together: a chunk ends where a block does."""
    prompt = list(range(20, 20 + prompt_length))
    fields = {"max_tokens": 50, "ignore_eos": True}
    whole = client.complete(prompt, **fields)
    chunks = chunks_of(client.completion(prompt, stream=True, **fields))
    blocks = [chunk["choices"][0]["token_ids"] for chunk in chunks]
    assert [token_id for block in blocks for token_id in block] == whole.token_ids
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole.text
    length = prompt_length
    for block in blocks[:-1]:
        length += len(block)
        assert length % BLOCK_LENGTH == 0
    assert len(blocks) <= (prompt_length + 49) // BLOCK_LENGTH - prompt_length // BLOCK_LENGTH + 1
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [
        *[None] * (len(chunks) - 1),
        "length",
    ]


def test_chat_stream(client: Client) -> None:
    fields = {"max_tokens": 60, "ignore_eos": True}
    whole = client.chat("Tell me a story.", **fields)
    chunks = list(client.chat("Tell me a story.", stream=True, **fields))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "length"


def test_usage_and_metrics_in_the_last_chunk(client: Client) -> None:
    fields = {"max_tokens": 40, "ignore_eos": True}
    whole = client.complete(PROMPT, **fields)
    *_, last = chunks_of(
        client.completion(PROMPT, stream=True, stream_options={"include_usage": True}, **fields)
    )
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == len(PROMPT)
    assert last["usage"]["completion_tokens"] == 40
    assert diffusion_of(last) == whole.diffusion


def test_continuous_usage(client: Client) -> None:
    chunks = chunks_of(
        client.completion(
            PROMPT,
            stream=True,
            max_tokens=40,
            ignore_eos=True,
            stream_options={"include_usage": True, "continuous_usage_stats": True},
        )
    )
    seen = 0
    for chunk in chunks[:-1]:
        seen += len(chunk["choices"][0]["token_ids"])
        assert chunk["usage"]["completion_tokens"] == seen


def test_streams_at_once_do_not_mix(client: Client) -> None:
    prompts = [[60 + number] * (4 + 7 * number) for number in range(6)]
    whole = [client.complete(prompt, max_tokens=40).token_ids for prompt in prompts]

    def stream(prompt: list[int]) -> list[int]:
        chunks = chunks_of(client.completion(prompt, stream=True, max_tokens=40))
        return [token_id for chunk in chunks for token_id in chunk["choices"][0]["token_ids"]]

    assert together([lambda p=p: stream(p) for p in prompts]) == whole


def is_idle(client: Client) -> bool:
    """Nothing runs, nothing waits, and no KV page is held, as the gauges tell it."""
    now = Counters.read(client.url)
    gauges = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    return all(now(name) == 0 for name in gauges)


@pytest.mark.parametrize("num_read", [0, 1, 3])
def test_an_abandoned_stream_frees_its_pages(client: Client, num_read: int) -> None:
    stream = client.completion(PROMPT, stream=True, max_tokens=900, ignore_eos=True)
    for _ in range(num_read):
        next(stream)
    stream.close()
    # An idle engine has no next step to say so with.
    assert eventually(lambda: is_idle(client), seconds=1)


def test_abandoned_streams_do_not_disturb_the_others(client: Client) -> None:
    """More streams than the server takes at a time; some of them never start."""
    expected = client.complete(PROMPT, max_tokens=60, ignore_eos=True)
    streams = [
        client.completion([70 + i], stream=True, max_tokens=900, ignore_eos=True)
        for i in range(MAX_SEQS + 3)
    ]
    next(streams[0])
    for stream in streams:
        stream.close()
    answer = client.complete(PROMPT, max_tokens=60, ignore_eos=True)
    assert answer.token_ids == expected.token_ids
    assert eventually(lambda: is_idle(client))


FRAMED = {"stream_options": {"diffusion_frames": True}}


def test_frames_lead_to_the_text(client: Client) -> None:
    """The text is what it is without them, and each block's last frame shows it."""
    fields = {"max_tokens": 50, "ignore_eos": True}
    whole = client.complete(PROMPT, **fields)
    chunks = chunks_of(client.completion(PROMPT, stream=True, **fields, **FRAMED))
    frames = [chunk["diffusion_frame"] for chunk in chunks if "diffusion_frame" in chunk]
    texts = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert [token for text in texts for token in text["token_ids"]] == whole.token_ids
    assert len(frames) == whole.diffusion["num_denoising_steps"]
    seen = 0
    for chunk in chunks:
        if frame := chunk.get("diffusion_frame"):
            assert frame["start"] == seen and frame["dropped"] == 0
            width = len(frame["tokens"])
            assert width == len(frame["states"]) == len(frame["probs"]) == len(frame["others"])
            assert frame["final"] == ("masked" not in frame["states"])
            seen += width * frame["final"]
    assert seen == len(whole.token_ids)


def test_frames_of_a_rate(client: Client) -> None:
    fields = {"max_tokens": 200, "ignore_eos": True, "diffusion_threshold": 1}
    options = {"stream_options": {"diffusion_frames": 5, "include_usage": True}}
    chunks = chunks_of(client.completion(PROMPT, stream=True, **fields, **options))
    frames = [chunk["diffusion_frame"] for chunk in chunks if "diffusion_frame" in chunk]
    told = len(frames) + sum(frame["dropped"] for frame in frames)
    assert told == diffusion_of(chunks[-1])["num_denoising_steps"]
    assert any(frame["dropped"] for frame in frames)


@pytest.mark.parametrize("frames", [0, -1, 5000, "often"])
def test_frames_that_cannot_be_had(client: Client, frames: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="diffusion_frames"):
        client.completion(PROMPT, stream=True, stream_options={"diffusion_frames": frames})
    with pytest.raises(openai.BadRequestError, match="stream"):
        client.completion(PROMPT, stream_options={"diffusion_frames": True})
    assert client.complete(PROMPT).token_ids


def test_watchers_that_leave(client: Client) -> None:
    """Nobody is disturbed by them, and nothing of them stays."""
    expected = client.complete(PROMPT, max_tokens=60, ignore_eos=True)
    for _ in range(2 * MAX_SEQS):
        fields = {"max_tokens": 900, "ignore_eos": True, "diffusion_threshold": 1}
        stream = client.completion(PROMPT, stream=True, **fields, **FRAMED)
        next(stream)
        stream.close()
    answer = client.complete(PROMPT, max_tokens=60, ignore_eos=True)
    assert answer.token_ids == expected.token_ids
    assert eventually(lambda: is_idle(client))
