"""How requests are read: stricter than vLLM's models, or more of them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("vllm", reason="the models are vLLM's")

from pydantic import ValidationError
from vllm.exceptions import VLLMValidationError

from vllm_diffusion.server.request_models import (
    MAX_STOPS,
    BatchRequest,
    ChatRequest,
    MessagesRequest,
    ResponseRequest,
    TextRequest,
)

CHAT = [{"role": "user", "content": "a"}]
CASES: list[tuple[Any, dict[str, Any], str]] = [
    (ChatRequest, {"messages": CHAT}, "stop"),
    (BatchRequest, {"messages": [CHAT]}, "stop"),
    (TextRequest, {"prompt": "a"}, "stop"),
    (ResponseRequest, {"input": "a"}, "stop"),
    (MessagesRequest, {"model": "m", "messages": CHAT, "max_tokens": 4}, "stop_sequences"),
]


@pytest.mark.parametrize(("model", "body", "field"), CASES)
def test_more_stop_strings_than_openais(model: Any, body: dict[str, Any], field: str) -> None:
    stops = [str(number) for number in range(MAX_STOPS)]
    assert getattr(model.model_validate(body | {field: stops}), field) == stops
    with pytest.raises(ValidationError, match="at most 64"):
        model.model_validate(body | {field: [*stops, "x"]})


@pytest.mark.parametrize("model", [ChatRequest, TextRequest, ResponseRequest, BatchRequest])
@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (5, "structured_outputs=5 is not valid: it must be an object"),
        ([], "it must be an object"),
        ({"chioce": ["a"]}, "structured_outputs.chioce=['a']: .* did you mean choice?"),
        ({"json": {}, "colour": 1}, "structured_outputs.colour=1: .* known are json, regex"),
    ],
)
def test_grammars_are_named(model: Any, asked: Any, says: str) -> None:
    body = next(body for each, body, _ in CASES if each is model)
    with pytest.raises(VLLMValidationError, match=says.replace("[", r"\[")):
        model.model_validate(body | {"structured_outputs": asked})


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{}], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tools": 5, "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"messages": None},
    ],
)
def test_what_vllms_validators_stumble_over_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises((VLLMValidationError, ValidationError)):
        ChatRequest.model_validate({"messages": CHAT} | more)


@pytest.mark.parametrize("model", [ChatRequest, TextRequest, ResponseRequest, BatchRequest])
@pytest.mark.parametrize("value", [None, 0, 1.5])
def test_sampling_fields_that_vllm_lacks(model: Any, value: float | None) -> None:
    body = next(body for each, body, _ in CASES if each is model)
    made = model.model_validate(body | {"top_n_sigma": value, "vllm_xargs": {"diffusion_a": 1}})
    if model is BatchRequest:
        made = made.to_chat_completion_request(CHAT)
    said = {} if value is None else {"top_n_sigma": value}
    assert made.to_sampling_params(8, {}).extra_args == {"diffusion_a": 1} | said
    with pytest.raises(ValidationError, match="top_n_sigma"):
        model.model_validate(body | {"top_n_sigma": "much"})


def test_an_empty_suffix_is_none() -> None:
    assert TextRequest.model_validate({"prompt": "a", "suffix": ""}).suffix is None
    assert TextRequest.model_validate({"prompt": "a", "suffix": "b"}).suffix == "b"


@pytest.mark.parametrize("level", ["instant", "low", None])
def test_levels_of_responses(level: str | None) -> None:
    made = ResponseRequest.model_validate({"input": "a", "reasoning": {"effort": level}})
    extra = made.to_sampling_params(8, {}).extra_args or {}
    assert extra.get("reasoning_effort") == level
    assert made.reasoning is not None
    assert made.reasoning.effort == ("none" if level == "instant" else level)


def test_a_batch_is_its_chats() -> None:
    body = {
        "messages": [CHAT, CHAT],
        "stop": list("abcdef"),
        "vllm_xargs": {"diffusion_effort": "low"},
    }
    batch = BatchRequest.model_validate(body)
    chat = batch.to_chat_completion_request(batch.messages[0])
    assert (chat.stop, chat.vllm_xargs) == (body["stop"], body["vllm_xargs"])
    for field, value in (("stream", True), ("tools", [{"type": "function"}])):
        with pytest.raises(VLLMValidationError, match=field):
            BatchRequest.model_validate(body | {field: value}).to_chat_completion_request(CHAT)
