"""OpenAI's ``prediction``: its shapes, what it is refused beside, how its tokens are counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the request models are vLLM's")

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.server import prediction
from vllm_diffusion.server.draft_text import MOST_CHARS, read_draft
from vllm_diffusion.server.request_models import ChatRequest

SAID = {"messages": [{"role": "user", "content": "x"}]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
EXPECTED = {"type": "content", "content": "a b c"}
DRAFT = "diffusion_draft"


def longest(one: list[int], other: list[int]) -> int:
    """The longest common subsequence, by its table."""
    row = [0] * (len(other) + 1)
    for each in one:
        above = row[:]
        for at, token in enumerate(other):
            row[at + 1] = above[at] + 1 if each == token else max(above[at + 1], row[at])
    return row[-1]


def test_counts_equal_the_table() -> None:
    rng = Random(1)
    for _ in range(400):
        few = rng.choice((2, 5, 30))
        one, other = ([rng.randrange(few) for _ in range(rng.randint(0, 40))] for _ in range(2))
        assert prediction.num_in_order(one, other) == longest(one, other)
    assert prediction.details([1, 2, 3], [1, 9, 3, 4]) == {
        "accepted_prediction_tokens": 2,
        "rejected_prediction_tokens": 1,
    }


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (EXPECTED, "a b c"),
        ({"type": "content", "content": [{"type": "text", "text": "a "}] * 2}, "a a "),
        ({"type": "content", "content": []}, ""),
    ],
)
def test_shapes(said: Any, text: str) -> None:
    assert prediction.content_of(said) == text


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("a", "prediction"),
        ({"type": "text", "content": "a"}, "prediction.type"),
        ({"content": "a"}, "prediction.type"),
        ({"type": "content"}, "prediction.content"),
        ({"type": "content", "content": [{"type": "image"}]}, "prediction.content"),
        ({"type": "content", "content": "a", "more": 1}, "prediction.more"),
    ],
)
def test_other_shapes_are_refused(said: Any, field: str) -> None:
    with pytest.raises(VLLMValidationError) as caught:
        prediction.content_of(said)
    assert caught.value.parameter == field


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"n": 2}, "n"),
        ({"tools": [TOOL]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"bad_words": ["a"]}, "bad_words"),
        ({"vllm_xargs": {DRAFT: "a"}}, f"vllm_xargs.{DRAFT}"),
    ],
)
def test_what_it_cannot_be_had_beside(more: dict[str, Any], field: str) -> None:
    request = ChatRequest.model_validate({**SAID, **more})
    with pytest.raises(VLLMValidationError, match="prediction") as caught:
        prediction.check_beside(request)
    assert caught.value.parameter == field


def test_what_it_can_be_had_beside() -> None:
    more = {"tools": [TOOL], "tool_choice": "none", "response_format": {"type": "text"}}
    prediction.check_beside(ChatRequest.model_validate({**SAID, **more, "presence_penalty": 0}))


class Renderer:
    """Each word is a token, the number of its first letter."""

    def tokenize_prompt(self, prompt: Any, params: Any) -> Any:
        assert not params.add_special_tokens
        return {"prompt_token_ids": [ord(word[0]) for word in prompt["prompt"].split()]}

    async def tokenize_prompt_async(self, prompt: Any, params: Any) -> Any:
        return self.tokenize_prompt(prompt, params)


MODEL: Any = SimpleNamespace(max_model_len=8, skip_tokenizer_init=False)
PROCESSOR: Any = SimpleNamespace(renderer=Renderer())
HANDLER: Any = SimpleNamespace(renderer=Renderer(), model_config=MODEL)


def answered(response: Any, **more: Any) -> tuple[Any, ChatRequest]:
    seen: list[ChatRequest] = []

    async def answer(request: ChatRequest) -> Any:
        seen.append(request)
        return response

    request = ChatRequest.model_validate({**SAID, "prediction": EXPECTED, **more})
    told = asyncio.run(prediction.predicting(answer, HANDLER)(request))
    return told, seen[0]


def events_of(stream: AsyncGenerator[str, None]) -> list[str]:
    async def collected() -> list[str]:
        return [event async for event in stream]

    return asyncio.run(collected())


async def stream(*contents: str) -> AsyncGenerator[str, None]:
    for content in contents:
        yield f"data: {json.dumps({'choices': [{'delta': {'content': content}}]})}\n\n"
    yield f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': 3}})}\n\n"
    yield "data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("more", "contents"),
    [({}, ("a ", "x c")), ({"stream": True, "diffusing": True}, ("a z ", "a x c"))],
)
def test_the_usage_of_a_stream_counts_them(more: dict[str, Any], contents: tuple[str, ...]) -> None:
    told, request = answered(stream(*contents), **more)
    assert request.vllm_xargs == {DRAFT: "a b c"}
    *_, usage, end = events_of(told)
    assert end == "data: [DONE]\n\n"
    assert json.loads(usage.removeprefix("data: "))["usage"] == {
        "completion_tokens": 3,
        "completion_tokens_details": {
            "accepted_prediction_tokens": 2,
            "rejected_prediction_tokens": 1,
        },
    }


def test_a_text_becomes_tokens() -> None:
    from vllm import SamplingParams

    sent = SamplingParams(extra_args={DRAFT: "a b", "diffusion_threshold": 0.5})
    read = read_draft(sent, MODEL, PROCESSOR)
    assert read.extra_args == {DRAFT: [97, 98], "diffusion_threshold": 0.5}
    assert sent.extra_args[DRAFT] == "a b"
    same = SamplingParams(extra_args={DRAFT: [1]})
    assert read_draft(same, MODEL, PROCESSOR) is same
    empty = SamplingParams(extra_args={DRAFT: ""})
    assert read_draft(empty, MODEL, PROCESSOR).extra_args == {DRAFT: None}


def test_a_text_that_no_output_could_hold_is_refused_before_it_becomes_tokens() -> None:
    from vllm import SamplingParams

    sent = SamplingParams(extra_args={DRAFT: "a" * (8 * MOST_CHARS + 1)})
    with pytest.raises(VLLMValidationError, match="at most 512 are read"):
        read_draft(sent, MODEL, None)  # type: ignore[arg-type]
    blind: Any = SimpleNamespace(max_model_len=8, skip_tokenizer_init=True)
    with pytest.raises(VLLMValidationError, match="no tokenizer here"):
        read_draft(SamplingParams(extra_args={DRAFT: "a"}), blind, None)  # type: ignore[arg-type]
