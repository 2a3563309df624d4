"""Settled text goes out before its block, and the whole text stays what it is without that."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the request models are vLLM's")

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.frames.frame import Frame, State
from vllm_diffusion.server import early
from vllm_diffusion.server.request_models import ChatRequest

END, HALF = 0, 5
WORDS = ["<end>", "a", "b", "c", "d", "\ufffd"]
TOKENIZER = SimpleNamespace(
    all_special_ids=[END], decode=lambda tokens: "".join(WORDS[token] for token in tokens)
)
SAID = {"messages": [{"role": "user", "content": "x"}], "stream": True, "realtime": True}
OPEN, DONE = State.MASKED, State.SETTLED
FREE = SimpleNamespace(decode=SimpleNamespace(edits=False, policy="confidence"))


def frame(tokens: list[int], states: list[int], start: int = 0, *, is_final: bool = False) -> Frame:
    plain: list[Any] = [0] * len(tokens)
    return Frame(
        block=0,
        step=0,
        start=start,
        is_final=is_final,
        tokens=tokens,
        others=plain,
        states=states,
        probs=plain,
        other_probs=plain,
    )


def made(parsed: Any = FREE, **said: Any) -> early.Early:
    channel: Any = SimpleNamespace(request_id="chatcmpl-1")
    return early.Early(channel, ChatRequest(**SAID, **said), TOKENIZER, lambda: parsed)


def content_of(event: Any) -> str | None:
    if event is None:
        return None
    (choice,) = json.loads(event.removeprefix("data: "))["choices"]
    content: str | None = choice["delta"].get("content")
    return content


def chunk(**delta: Any) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n"


def test_what_is_settled_in_front_is_told_and_not_again() -> None:
    one = made()
    assert content_of(one.of_frame(frame([1, 2, 3, 4], [DONE, OPEN, DONE, OPEN]), 0)) == "a"
    assert one.of_frame(frame([1, 2, 3, 4], [DONE, OPEN, DONE, DONE]), 0) is None
    assert content_of(one.of_frame(frame([1, 2, 3, 4], [DONE] * 4, is_final=True), 0)) == "bcd"
    assert content_of(one.of_event(chunk(content="abcd"))) == ""
    assert content_of(one.of_frame(frame([2, 1], [DONE, OPEN], 4), 0)) == "b"
    assert content_of(one.of_event(chunk(content="ba"))) == "a"
    assert one.sent == one.text == "abcdba"


def test_nothing_is_told_behind_an_end_or_a_limit() -> None:
    assert content_of(made().of_frame(frame([1, END, 2], [DONE] * 3), 0)) == "a"
    assert content_of(made(max_tokens=2).of_frame(frame([1, 2, 3], [DONE] * 3), 0)) == "ab"
    assert content_of(made(stop_token_ids=[3]).of_frame(frame([1, 2, 3], [DONE] * 3), 0)) == "ab"


def test_a_part_of_a_character_waits() -> None:
    assert content_of(made().of_frame(frame([1, HALF, 2], [DONE, DONE, OPEN]), 0)) == "a"


@pytest.mark.parametrize(
    "parsed",
    [
        None,
        SimpleNamespace(decode=SimpleNamespace(edits=True, policy="confidence")),
        SimpleNamespace(decode=SimpleNamespace(edits=False, policy="self_speculation")),
    ],
)
def test_what_may_still_change_waits(parsed: Any) -> None:
    assert made(parsed).of_frame(frame([1, 2], [DONE, OPEN]), 0) is None


def test_after_a_lost_frame_blocks_bring_the_text() -> None:
    one = made()
    assert one.of_frame(frame([1, 2], [DONE, OPEN]), 1) is None
    assert content_of(one.of_event(chunk(content="ab"))) == "ab"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, True),
        ({"stop": ["x"]}, False),
        ({"n": 2}, False),
        ({"logprobs": True}, False),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, False),
    ],
)
def test_when_text_can_be_early(said: dict[str, Any], expected: bool) -> None:
    assert early.can_be_early(ChatRequest(**SAID, **said), has_reasoning_parser=False) is expected
    assert not early.can_be_early(ChatRequest(**SAID, **said), has_reasoning_parser=True)


@pytest.mark.parametrize("said", [{"realtime": "yes"}, {"stream": False}])
def test_what_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(VLLMValidationError, match="realtime"):
        early.check(ChatRequest(**(SAID | said)))
