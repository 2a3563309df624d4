"""Drafts: each chunk has the whole text so far; what cannot be had is refused."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the request models are vLLM's")

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.frames import Frame
from vllm_diffusion.server import drafts
from vllm_diffusion.server.request_models import ChatRequest

END = 0
WORDS = ["<end>", "a", "b", "c", "d"]
TOKENIZER = SimpleNamespace(
    all_special_ids=[END], decode=lambda tokens: "".join(WORDS[token] for token in tokens)
)
SAID = {"messages": [{"role": "user", "content": "x"}], "stream": True, "diffusing": True}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def frame(tokens: list[int], start: int, *, is_final: bool = False) -> Frame:
    plain: list[Any] = [0] * len(tokens)
    return Frame(
        block=start // 2,
        step=0,
        start=start,
        is_final=is_final,
        tokens=tokens,
        others=plain,
        states=plain,
        probs=plain,
        other_probs=plain,
    )


def made() -> drafts.Drafts:
    channel: Any = SimpleNamespace(request_id="chatcmpl-1")
    return drafts.Drafts(channel, "m", TOKENIZER)


def content_of(event: str | None) -> str | None:
    if event is None:
        return None
    (choice,) = json.loads(event.removeprefix("data: "))["choices"]
    content: str | None = choice["delta"].get("content")
    return content


def chunk(reason: str | None = None, **delta: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return f"data: {json.dumps({'id': 'chatcmpl-1', 'choices': [choice]})}\n\n"


def test_a_step_shows_the_finished_blocks_and_its_own() -> None:
    stream = made()
    steps = [frame([1, 1], 0), frame([1, 2], 0, is_final=True), frame([3, END], 2)]
    assert [content_of(stream.of_frame(each, 0)) for each in steps] == ["aa", "ab", "abc"]


def test_a_step_that_changes_nothing_to_see_is_left_out() -> None:
    stream = made()
    assert stream.of_frame(frame([1, 2], 0), 0) is not None
    assert stream.of_frame(frame([1, 2], 0, is_final=True), 0) is None


def test_a_block_that_starts_over_is_replaced() -> None:
    stream = made()
    stream.of_frame(frame([1, 2], 0, is_final=True), 0)
    stream.of_frame(frame([3, 3], 2), 0)
    assert content_of(stream.of_frame(frame([4, 4], 0), 0)) == "dd"


def test_chunks_have_the_whole_text_and_the_last_one_too() -> None:
    stream = made()
    events = [chunk(role="assistant", content=""), chunk(content="ab"), chunk(content="c")]
    assert [content_of(stream.of_event(each)) for each in events] == ["", "ab", "abc"]
    assert content_of(stream.of_event(chunk("stop"))) == "abc"


def test_drafts_are_not_taken_back_before_the_last_chunk() -> None:
    stream = made()
    stream.of_frame(frame([1, 2], 0, is_final=True), 0)
    stream.of_frame(frame([3, 4], 2), 0)
    events = [chunk(role="assistant", content=""), chunk(content="ab"), chunk("stop", content="c")]
    assert [content_of(stream.of_event(each)) for each in events] == ["abcd", "abcd", "abc"]


def test_what_is_no_chunk_stays() -> None:
    assert made().of_event("data: [DONE]\n\n") == "data: [DONE]\n\n"


def test_a_text_that_never_came_is_not_told() -> None:
    assert content_of(made().of_event(chunk("stop"))) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"diffusing": "yes"}, "true or false"),
        ({"diffusing": 1}, "true or false"),
        ({"stream": False}, "stream=true"),
        ({"n": 2, "temperature": 1}, "n=1"),
        ({"tools": [TOOL]}, "no call"),
        ({"logprobs": True}, "log-probabilities"),
        ({"echo": True}, "echo"),
        ({"stream_options": {"diffusion_frames": True}}, "frames tell more"),
    ],
)
def test_what_cannot_be_had_is_refused(fields: dict[str, Any], words: str) -> None:
    request = ChatRequest.model_validate(SAID | fields)
    with pytest.raises(VLLMValidationError, match=words) as caught:
        drafts.check(request, has_reasoning_parser=False)
    assert caught.value.parameter == "diffusing"


def test_drafts_cannot_tell_thoughts_apart() -> None:
    request = ChatRequest.model_validate(SAID)
    drafts.check(request, has_reasoning_parser=False)
    with pytest.raises(VLLMValidationError, match="thoughts"):
        drafts.check(request, has_reasoning_parser=True)


@pytest.mark.parametrize("value", [None, False])
def test_nobody_who_does_not_ask_gets_them(value: object) -> None:
    request = ChatRequest.model_validate(SAID | {"diffusing": value, "stream": False})
    drafts.check(request, has_reasoning_parser=True)
    assert not drafts.are_asked(request)
