"""The grammar of forced calls: their arguments are objects, by vLLM's own parsers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the grammars are vLLM's")

from transformers import AutoTokenizer
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.exceptions import VLLMValidationError
from vllm.parser import ParserManager

from vllm_diffusion.server.request_models import ChatRequest
from vllm_diffusion.server.tool_grammar import held

MODEL = Path(__file__).resolve().parents[2] / "examples" / "models" / "tiny-diffusion"
PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NAMED = {"type": "function", "function": {"name": "weather"}}
FORCED = ["required", NAMED]
ANY = {"type": "object"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL)


def schemas(request: Any, tokenizer: Any, parser: str = "hermes") -> list[Any]:
    """Of the arguments, in the grammar that the parser makes."""
    parser_cls = ParserManager.get_parser(
        tool_parser_name=parser,
        reasoning_parser_name="",
        enable_auto_tools=True,
        tool_strict_level="auto",
        model_name="",
        is_harmony=False,
        tokenizer=tokenizer,
    )
    before = [tool.model_dump() for tool in request.tools]
    adjusted = held(parser_cls)(tokenizer, request.tools).adjust_request(request)
    assert [tool.model_dump() for tool in adjusted.tools] == before  # as the prompt shows them
    asked = adjusted.structured_outputs
    if asked is None:
        return []
    return [
        tag["content"]["json_schema"] for tag in json.loads(asked.structural_tag)["format"]["tags"]
    ]


def chat(choice: Any, **function: Any) -> ChatRequest:
    tool = {"type": "function", "function": {"name": "weather", **function}}
    messages = [{"role": "user", "content": "a"}]
    return ChatRequest.model_validate(
        {"messages": messages, "tools": [tool], "tool_choice": choice}
    )


@pytest.mark.parametrize("choice", FORCED, ids=["required", "named"])
@pytest.mark.parametrize("strict", [{}, {"strict": False}, {"strict": True}, {"strict": None}])
@pytest.mark.parametrize(
    ("said", "schema"),
    [
        ({}, ANY),
        ({"parameters": None}, ANY),
        ({"parameters": {}}, ANY),
        ({"parameters": PLACE}, PLACE),
        ({"parameters": {"type": ["object", "null"]}}, ANY),
        ({"parameters": {"required": ["a"]}}, ANY | {"required": ["a"]}),
    ],
)
def test_arguments_of_forced_calls_are_objects(
    tokenizer: Any, choice: Any, strict: Any, said: Any, schema: Any
) -> None:
    assert schemas(chat(choice, **said, **strict), tokenizer) == [schema, schema]


def test_of_responses_too(tokenizer: Any) -> None:
    tools = [{"type": "function", "name": "weather", "parameters": {}, "strict": None}]
    for choice in ("required", {"type": "function", "name": "weather"}):
        body = {"input": "a", "tools": tools, "tool_choice": choice}
        assert schemas(ResponsesRequest.model_validate(body), tokenizer) == [ANY, ANY]


def test_calls_that_may_come_are_free_unless_strict(tokenizer: Any) -> None:
    assert schemas(chat("auto", parameters=PLACE), tokenizer) == []
    assert schemas(chat("auto", parameters=PLACE, strict=True), tokenizer) == [PLACE, PLACE]
    assert schemas(chat("auto", parameters={}, strict=True), tokenizer) == [ANY, ANY]


@pytest.mark.parametrize("choice", FORCED, ids=["required", "named"])
def test_other_arguments_than_objects_are_refused(tokenizer: Any, choice: Any) -> None:
    with pytest.raises(VLLMValidationError, match="the arguments of a call are an object"):
        schemas(chat(choice, parameters={"type": "string"}), tokenizer)


@pytest.mark.parametrize("text", ['<tool_call>\n{"name": "weather", "argu', "", "no call"])
def test_a_call_that_is_cut_off_is_no_text(tokenizer: Any, text: str) -> None:
    parser_cls = ParserManager.get_parser(
        tool_parser_name="hermes",
        reasoning_parser_name="",
        enable_auto_tools=True,
        tool_strict_level="auto",
        model_name="",
        is_harmony=False,
        tokenizer=tokenizer,
    )
    for choice in FORCED:
        request = chat(choice)
        _, content, calls = held(parser_cls)(tokenizer, request.tools).parse(text, request, True)
        assert not content
        assert not calls
