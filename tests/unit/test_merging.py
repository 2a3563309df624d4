"""``extra_body`` is merged into the top level, before anything else is read."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("vllm", reason="the request models are vLLM's")

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.server.merging import merged
from vllm_diffusion.server.request_models import (
    BatchRequest,
    ChatRequest,
    ResponseRequest,
    TextRequest,
)

CHAT = {"messages": [{"role": "user", "content": "x"}]}


def test_its_fields_are_the_bodys() -> None:
    assert merged({"a": 1, "extra_body": {"b": 2, "a": 1}}) == {"a": 1, "b": 2}
    assert merged({"a": 1, "extra_body": None}) == {"a": 1}
    assert merged("no object") == "no object"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("x", "it must be an object"),
        ([1], "it must be an object"),
        ({"a": 2}, "extra_body.a=2 does not go together with a=1"),
        ({"extra_body": {}}, "extra_body.extra_body"),
    ],
)
def test_contradictions_are_refused(extra: Any, words: str) -> None:
    with pytest.raises(VLLMValidationError, match=words):
        merged({"a": 1, "extra_body": extra})


@pytest.mark.parametrize(
    ("model", "said"),
    [(ChatRequest, CHAT), (TextRequest, {"prompt": "x"}), (ResponseRequest, {"input": "x"})],
)
def test_every_model_reads_them(model: Any, said: dict[str, Any]) -> None:
    made = model.model_validate(said | {"extra_body": {"top_k": 7}})
    assert made.top_k == 7
    assert "extra_body" not in (made.model_extra or {})
    with pytest.raises(VLLMValidationError, match="does not go together"):
        model.model_validate(said | {"top_k": 3, "extra_body": {"top_k": 7}})


def test_validators_see_what_it_brings() -> None:
    instant = {"extra_body": {"reasoning": {"effort": "instant"}}}
    assert ResponseRequest.model_validate({"input": "x"} | instant)._level == "instant"
    empty = TextRequest.model_validate({"prompt": "x", "extra_body": {"suffix": ""}})
    assert empty.suffix is None


def test_several_chats_read_them_too() -> None:
    batch = BatchRequest.model_validate(
        {"messages": [CHAT["messages"]], "extra_body": {"top_k": 7}}
    )
    assert batch.to_chat_completion_request(CHAT["messages"]).top_k == 7
