"""What of a finished text is checked, and what its client is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="outputs are vLLM's")

from vllm.exceptions import GenerationError
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from tests.unit.structured_inputs import LIMITS
from vllm_diffusion.server import finished
from vllm_diffusion.server.errors import code_of
from vllm_diffusion.server.finished import MESSAGE, checked, is_held
from vllm_diffusion.structured.constraint import Constraint

THINK, END, CALL, STOP = 900, 901, 902, 903
SPELLED = {THINK: "<think>", END: "</think>", CALL: "<call>", STOP: "<stop>"}


class Tokenizer:
    """A token a character, and some special ones."""

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        special = {} if skip_special_tokens else SPELLED
        return "".join(special.get(t, "") if t in SPELLED else chr(t) for t in tokens)


class Parser:
    """Of thoughts that end with a token, or with one that begins a call."""

    def __init__(self, tokenizer: Any) -> None:
        del tokenizer

    def is_reasoning_end(self, tokens: list[int]) -> bool:
        return END in tokens

    def is_reasoning_end_streaming(self, tokens: list[int], new: list[int]) -> bool:
        return new[-1] in (END, CALL)

    def find_reasoning_end(self, tokens: list[int]) -> Any:
        return SimpleNamespace(implicit=tokens[-1] == CALL)


class Service:
    """Remembers what it was asked; answers never where it is slow."""

    def __init__(self) -> None:
        self.limits, self.asked, self.is_slow = replace(LIMITS, check_seconds=0.05), [], False

    def start(self) -> Future[None]:
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def submit(self, constraint: Constraint, text: str) -> Future[Any]:
        self.asked.append(text)
        future: Future[Any] = Future()
        if not self.is_slow:
            future.set_result(("valid" if text == constraint.spec else "invalid", "why"))
        return future


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(
        finished, "CheckedTexts", lambda name: SimpleNamespace(count=lambda r: found.append(r))
    )
    monkeypatch.setattr(finished, "_made_parser", lambda name, tokenizer: Parser(tokenizer))
    return found


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, counted: list[str]) -> Service:
    made = Service()
    monkeypatch.setattr(finished, "checks_of", lambda config: made)
    return made


def config(parser: str = "") -> Any:
    structured = SimpleNamespace(
        reasoning_parser=parser,
        enable_in_reasoning=False,
        disable_any_whitespace=False,
        disable_additional_properties=False,
        backend="auto",
    )
    plan = SimpleNamespace(defaults=None)  # of which no field of these requests asks
    model = SimpleNamespace(served_model_name="m", diffusion_plan=plan)
    return SimpleNamespace(structured_outputs_config=structured, model_config=model)


def params(
    kind: RequestOutputKind = RequestOutputKind.FINAL_ONLY, asked: Any = None, **fields: Any
) -> SamplingParams:
    return SamplingParams(
        output_kind=kind,
        structured_outputs=StructuredOutputsParams(**(asked or {"regex": "abc"})),
        **fields,
    )


def output(text: str, tokens: list[int], reason: str | None = "stop", **more: Any) -> Any:
    one = SimpleNamespace(
        index=more.get("index", 0), text=text, token_ids=tokens, finish_reason=reason,
        stop_reason=more.get("stop_reason"),
    )  # fmt: skip
    return SimpleNamespace(request_id="r", outputs=[one], prompt_token_ids=[THINK])


def ids(text: str) -> list[int]:
    return [ord(char) for char in text]


def passed(
    outputs: list[Any], asked: SamplingParams, served: Any = None, *, has_reasoned: bool = False
) -> list[Any]:
    """The outputs that reach the handler; ends with the error, if there is one."""

    async def made() -> AsyncGenerator[Any, None]:
        for one in outputs:
            yield one

    async def read() -> list[Any]:
        found: list[Any] = []
        stream = checked(made(), asked, served or config(), Tokenizer(), has_reasoned=has_reasoned)
        try:
            async for one in stream:
                found.append(one)
        except GenerationError as error:
            found.append(error)
        return found

    return asyncio.run(read())


def test_a_right_and_a_wrong_text(service: Service, counted: list[str]) -> None:
    right, wrong = output("abc", [*ids("abc"), STOP]), output("abd", [*ids("abd"), STOP])
    assert passed([right], params()) == [right]
    (error,) = passed([wrong], params())
    assert isinstance(error, GenerationError)
    assert (str(error), code_of(500, str(error))) == (MESSAGE, "invalid_structured_output")
    assert counted == ["valid", "invalid"]


def test_a_stream_is_put_together(service: Service, counted: list[str]) -> None:
    delta = RequestOutputKind.DELTA
    parts = [
        output("a", ids("a"), None),
        output("b", ids("b"), None),
        output("c", [*ids("c"), STOP]),
    ]
    assert passed(parts, params(delta)) == parts
    assert service.asked == ["abc"]
    wrong = [*parts[:2], output("x", ids("x"))]
    assert passed(wrong, params(delta))[:2] == wrong[:2]
    assert counted == ["valid", "invalid"]


def test_answers_of_one_request_are_told_apart(service: Service, counted: list[str]) -> None:
    parts = [output("a", ids("a"), None), output("ab", ids("ab"), None, index=1),
             output("bc", ids("bc")), output("c", ids("c"), index=1)]  # fmt: skip
    assert passed(parts, params(RequestOutputKind.DELTA, n=2, temperature=1)) == parts
    assert (service.asked, counted) == (["abc", "abc"], ["valid", "valid"])


@pytest.mark.parametrize(
    "ended", [{"reason": "length"}, {"reason": "abort"}, {"reason": None}, {"stop_reason": "x"}]
)
def test_what_is_cut_off_is_not_checked(
    service: Service, counted: list[str], ended: dict[str, Any]
) -> None:
    one = output("zzz", ids("zzz"), **ended)
    assert passed([one], params()) == [one]
    assert (service.asked, counted) == ([], [])


def test_thoughts_are_not_part_of_it(service: Service, counted: list[str]) -> None:
    thought = [*ids("hm"), END, *ids("abc"), STOP]
    passed([output("hmabc", thought)], params(), config("p"))
    shown = params(skip_special_tokens=False)
    passed([output("hm</think>abc", thought)], shown, config("p"))
    call = params(asked={"regex": "<call>abc"}, skip_special_tokens=False)
    passed([output("hm<call>abc", [*ids("hm"), CALL, *ids("abc"), STOP])], call, config("p"))
    assert service.asked == ["abc", "abc", "<call>abc"]
    assert counted == ["valid"] * 3
    # It ends within its thoughts: nothing is asked of these.
    passed([output("hm", [*ids("hm"), STOP])], params(), config("p"))
    assert len(service.asked) == 3
    # There are none: the server says so, or the prompt.
    passed([output("abc", ids("abc"))], params(), config("p"), has_reasoned=True)
    ended = output("abc", ids("abc"))
    ended.prompt_token_ids = [THINK, END]
    passed([ended], params(), config("p"))
    assert service.asked[3:] == ["abc", "abc"]


def test_texts_that_show_how_they_end(service: Service, counted: list[str]) -> None:
    said = params(include_stop_str_in_output=True, skip_special_tokens=False)
    passed([output("abc<stop>", [*ids("abc"), STOP])], said)
    passed([output("", [*ids("abc"), STOP])], params(detokenize=False))
    assert (service.asked, counted) == (["abc", "abc"], ["valid", "valid"])


def test_a_check_that_does_not_come_to_an_end(service: Service, counted: list[str]) -> None:
    service.is_slow = True
    one = output("abd", ids("abd"))
    assert passed([one], params()) == [one]
    service.limits = replace(LIMITS, check_bytes=2)
    assert passed([one], params()) == [one]
    assert (service.asked, counted) == (["abd"], ["unchecked"] * 2)


def test_a_cheap_check_needs_no_process(service: Service, counted: list[str]) -> None:
    asked = params(asked={"json": {"type": "object", "required": ["a"]}})
    right, wrong = json.dumps({"a": 1}), json.dumps({"b": 1})
    passed([output(right, ids(right))], asked)
    assert isinstance(passed([output(wrong, ids(wrong))], asked)[0], GenerationError)
    assert (service.asked, counted) == ([], ["valid", "invalid"])


def test_who_is_held_to_something() -> None:
    assert is_held(params())
    assert is_held(SamplingParams(extra_args={"diffusion_keywords": ["a"]}))
    assert not is_held(SamplingParams(extra_args={"diffusion_policy": "static"}))
    assert not is_held(SamplingParams())
