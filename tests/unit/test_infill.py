"""The text between two passages: how a model is asked for it, and what is cut off its answer."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the requests are vLLM's")

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.endpoints.fim import FimRequest
from vllm_diffusion.endpoints.infill import InfillRequest, picked
from vllm_diffusion.server.infill import (
    MARKERS,
    Form,
    as_stream,
    filling,
    form_of,
    passages_of,
    split_marked,
    without_overlap,
)
from vllm_diffusion.server.request_models import TextRequest

TEMPLATE = "Fill {x} in:\n{prefix}___{suffix}!"


def tokenizer(*words: str) -> Any:
    def render(messages: Any, **_: Any) -> str:
        return f"<user>{messages[0]['content']}<answer>"

    return SimpleNamespace(get_vocab=lambda: dict.fromkeys(words, 1), apply_chat_template=render)


def config(**fields: Any) -> Any:
    return SimpleNamespace(**fields)


def test_a_checkpoint_says_how_it_is_asked() -> None:
    form = form_of(config(infill_prompt=TEMPLATE), tokenizer(*MARKERS[0]))
    assert form == Form(template=TEMPLATE)
    said = form.prompt("a{suffix}{", "}b", tokenizer())
    assert said == "<user>Fill {x} in:\na{suffix}{___}b!<answer>"


@pytest.mark.parametrize("markers", MARKERS)
def test_a_tokenizers_markers_say_it_else(markers: tuple[str, str, str]) -> None:
    form = form_of(config(), tokenizer(*markers))
    assert form is not None
    assert form.prompt("a", "b", tokenizer()) == f"{markers[0]}a{markers[1]}b{markers[2]}"
    assert form_of(config(), tokenizer(*markers[:2])) is None
    assert form_of(config(), None) is None


@pytest.mark.parametrize("template", ["", "{prefix}", "{suffix}{prefix}", 5])
def test_a_form_without_places_is_refused(template: Any) -> None:
    with pytest.raises(ValueError, match="infill_prompt"):
        form_of(config(infill_prompt=template), tokenizer())


def test_markers_in_a_prompt_are_read_where_the_model_does_not_read_them() -> None:
    for before, hole, answer in MARKERS:
        prompt = f"{before}a\n{hole}\nb{answer}"
        assert split_marked(prompt, Form(template=TEMPLATE)) == ("a\n", "\nb")
        assert split_marked(prompt, Form(markers=(before, hole, answer))) is None
        assert split_marked(prompt + "x", None) is None
        assert split_marked("x" + prompt, None) is None
    assert split_marked("plain", None) is None


@pytest.mark.parametrize(
    ("text", "suffix", "left"),
    [
        ("    x = 1\n    return x", "\n    return x\n", "    x = 1"),
        ("x = 1\n", "\n\ny = 2", "x = 1\n"),  # white space alone says nothing
        ("f(a, b)", ")\nprint(c)", "f(a, b)"),  # too short to be told from the answer
        ("print(c)", "print(c)\n", ""),
        ("", "abc", ""),
        ("abc", "", "abc"),
        ("xyzabcd", "abcdabcd", "xyz"),
    ],
)
def test_what_the_suffix_says_is_not_said_twice(text: str, suffix: str, left: str) -> None:
    assert without_overlap(text, suffix) == left


@pytest.mark.parametrize(
    ("field", "value"),
    [("echo", True), ("logprobs", 1), ("truncate_prompt_tokens", 5), ("return_token_ids", True)],
)
def test_what_does_not_go_together_with_a_suffix(field: str, value: Any) -> None:
    request = TextRequest.model_validate({"prompt": "a", "suffix": "b", field: value})
    with pytest.raises(VLLMValidationError, match=field):
        passages_of(request, None)


def test_passages() -> None:
    assert passages_of(TextRequest(prompt="a", suffix="b"), None) == ("a", "b")
    assert passages_of(TextRequest(prompt="", suffix="b"), None) == ("", "b")
    for suffix in ("", "<|endoftext|>", None):
        assert passages_of(TextRequest(prompt="a", suffix=suffix), None) is None
    with pytest.raises(VLLMValidationError, match="one text"):
        passages_of(TextRequest(prompt=["a", "c"], suffix="b"), None)
    with pytest.raises(VLLMValidationError, match="prompt"):
        TextRequest(prompt="")


def answering(text: str, seen: list[Any]) -> Any:
    async def answer(request: Any, *_: Any) -> Any:
        seen.append(request)
        choice = SimpleNamespace(index=0, text=text, finish_reason="stop", stop_reason=None)
        whole = {"id": "i", "object": "o", "created": 1, "model": "m", "usage": {"total_tokens": 3}}
        response = SimpleNamespace(choices=[choice], **whole)
        response.model_dump = lambda: {**whole, "choices": [dict(vars(choice))]}
        return response

    return answer


def test_a_stream_is_the_whole_answer() -> None:
    seen: list[Any] = []
    handler = filling(answering("x = 1\nlast line", seen), Form(template=TEMPLATE), tokenizer)
    request = TextRequest(
        prompt="a",
        suffix="\nlast line",
        stream=True,
        stream_options={"include_usage": True},
        temperature=0.5,
    )

    async def run() -> list[str]:
        return [event async for event in await handler(request)]

    *chunks, done = asyncio.run(run())
    assert done == "data: [DONE]\n\n"
    told = [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]
    assert [chunk["choices"][0]["text"] for chunk in told[:-1]] == ["x = 1", ""]
    assert [chunk["choices"][0]["finish_reason"] for chunk in told[:-1]] == [None, "stop"]
    assert (told[-1]["choices"], told[-1]["usage"]) == ([], {"total_tokens": 3})
    (asked,) = seen
    assert (asked.prompt, asked.suffix, asked.stream) == (
        "<user>Fill {x} in:\na___\nlast line!<answer>",
        None,
        False,
    )
    assert asked.temperature == 0.5 and not asked.add_special_tokens


def test_an_empty_answer_is_a_stream_with_an_end() -> None:
    response = asyncio.run(answering("", [])(None))

    async def run() -> list[str]:
        return [event async for event in as_stream(response, TextRequest(prompt="a"))]

    first, done = asyncio.run(run())
    assert json.loads(first.removeprefix("data: "))["choices"][0]["finish_reason"] == "stop"
    assert done == "data: [DONE]\n\n"


def test_a_model_without_a_form_says_so() -> None:
    handler = filling(answering("x", []), None, tokenizer)
    with pytest.raises(VLLMValidationError, match="infill_prompt"):
        asyncio.run(handler(TextRequest(prompt="a", suffix="b")))
    assert asyncio.run(handler(TextRequest(prompt="a"))).choices[0].text == "x"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"segments": ["a"]}, "null"),
        ({"segments": []}, "null"),
        ({"segments": [None] * 40}, "null"),
        ({"segments": ["a", None, None]}, "one hole"),
        ({"segments": ["a", None], "suffix": "b"}, "suffix does not go together"),
        ({"segments": ["a", None], "prompt": "b"}, "prompt does not go together"),
        ({"segments": ["a", None], "n": 2}, "one answer"),
    ],
)
def test_segments_that_cannot_be_filled(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(VLLMValidationError, match=said):
        FimRequest.model_validate(fields).holes()


def test_defaults_of_the_route() -> None:
    request = FimRequest(prompt="a", suffix="b")
    assert (request.max_tokens, request.stop) == (512, ["\n\n", "\n \n"])
    assert FimRequest(segments=[None, "b", None]).holes() == [0, 2]
    plain = FimRequest(segments=[None, "b"]).plain(prompt="x", suffix="b")
    assert plain.segments is None and "segments" not in plain.model_fields_set


def test_llamas_names() -> None:
    request = InfillRequest.model_validate(
        {
            "input_prefix": "a\n",
            "prompt": "  x",
            "input_suffix": "\nb",
            "input_extra": [{"filename": "f", "text": "other"}],
            "n_predict": 7,
            "top_k": 0,
            "seed": -1,
            "repeat_penalty": 1.1,
            "samplers": ["top_k"],
        }
    )
    request.check()
    asked = request.completion("m")
    assert (asked.model, asked.prompt, asked.suffix) == ("m", "other\na\n  x", "\nb")
    assert (asked.max_tokens, asked.top_k, asked.seed) == (7, -1, None)
    assert asked.repetition_penalty == 1.1
    with pytest.raises(VLLMValidationError, match="n_predict"):
        InfillRequest.model_validate({"n_predct": 1}).check()


def test_fields_of_an_answer_are_picked_flat() -> None:
    whole = {"content": "x", "timings": {"prompt_n": 3}}
    assert picked(whole, None) is whole
    assert picked(whole, ["content", "timings/prompt_n", "no/such"]) == {
        "content": "x",
        "timings/prompt_n": 3,
    }
