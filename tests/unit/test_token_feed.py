"""Tool and reasoning parsers give the same in blocks as token by token, and as in one piece.

For every parser that vLLM registers, streams in chunks are compared with the
stream of single tokens; for the formats that the supported families write, with
the text in one piece too. Qwen's JSON (``hermes``) is that of the Qwen-derived
families and, by the chat template that ships with it, of LLaDA2; thoughts are
marked as in Qwen3 and DeepSeek-R1, by which TraDo and DreamReasoner were trained.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the parsers are vLLM's")

from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.entrypoints.generate.base.protocol import DeltaFunctionCall, DeltaMessage, DeltaToolCall
from vllm.parser.parser_manager import ParserManager
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

from tests.unit.parser_streams import MARKS, stream, whole
from vllm_diffusion.server.token_feed import by_token, feed_by_token, merge

NOT_MADE = {
    *("cohere_command3", "cohere_command4"),  # need a package of Cohere's
    "hf",  # reads its format off the tokenizer's files
}
NOT_MADE_OF_REASONING = NOT_MADE | {
    *("k2_horizon", "olmo3"),  # need tokens that no other tokenizer has
}
TOOL = sorted(set(ToolParserManager.list_registered()) - NOT_MADE)
REASONING = sorted(set(ReasoningParserManager.list_registered()) - NOT_MADE_OF_REASONING)
PARSERS: list[tuple[str | None, str | None]] = [
    *((name, None) for name in TOOL),
    *((None, name) for name in REASONING),
    *(("hermes", name) for name in ("qwen3", "deepseek_r1", "nemotron_v3")),
    *((name, "qwen3") for name in ("qwen3_json", "qwen3_coder")),
    ("glm45", "glm45"),
]
FRAGMENTS = (
    *MARKS[:4],
    *("{", "}", "[", "]", '"', ":", ",", "\n", " ", "\\", "=", "(", ")"),
    *('{"name": "weather", "arguments": {"city": "oslo"}}', '"arguments": ', '"name": "book_it"'),
    *("weather", "a question", "é", "🙂", "<", "</", "<function=weather>", "</function>"),
    *("<parameter=city>", "</parameter>", "<arg_key>city</arg_key>", "<arg_value>oslo</arg_value>"),
    *("[weather(city='oslo')]", "thoughts", "[TOOL_CALLS]", "<|python_tag|>"),
)
texts = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=12).map("".join)
sizes = st.lists(st.integers(1, 64), min_size=1, max_size=5)
NAMED = {"type": "function", "function": {"name": "weather"}}
asked = st.fixed_dictionaries(
    {},
    optional={
        "tool_choice": st.sampled_from(["auto", "none", "required", NAMED]),
        "include_reasoning": st.booleans(),
        "stop": st.sampled_from(["oslo", ["ther", "a question"], "never there"]),
    },
)
random_order = settings(max_examples=25, deadline=None, database=None)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Parsers log what they cannot read, and most of what they are given here is that."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def parser_of(names: tuple[str | None, str | None]) -> Any:
    tool, reasoning = names
    return ParserManager.get_parser(tool, reasoning, enable_auto_tools=tool is not None)


def outcome(*args: Any, **fields: Any) -> Any:
    """What is parsed; of a parser that fails at what it is given, how."""
    try:
        return stream(*args, **fields)
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("names", PARSERS, ids=str)
def test_chunks_make_no_difference(names: tuple[str | None, str | None]) -> None:
    """Whatever the text: no worse, and no better, than vLLM's parser fed token by token."""
    parser_cls = parser_of(names)

    @random_order
    @given(text=texts, sizes=sizes, fields=asked)
    def compare(text: str, sizes: list[int], fields: dict[str, Any]) -> None:
        by_single_tokens = outcome(parser_cls, text, [1], **fields)
        assert outcome(by_token(parser_cls), text, sizes, **fields) == by_single_tokens
        assert outcome(by_token(parser_cls), text, [1], **fields) == by_single_tokens

    compare()


Calls = list[tuple[str, dict[str, str]]]


def hermes(calls: Calls) -> str:
    objects = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return "\n".join(
        f"<tool_call>\n{json.dumps(each, ensure_ascii=False)}\n</tool_call>" for each in objects
    )


def xml(calls: Calls) -> str:
    def written(name: str, arguments: dict[str, str]) -> str:
        inner = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in arguments.items())
        return f"<tool_call>\n<function={name}>\n{inner}</function>\n</tool_call>"

    return "\n".join(written(*call) for call in calls)


def glm(calls: Calls) -> str:
    def written(name: str, arguments: dict[str, str]) -> str:
        inner = "".join(
            f"<arg_key>{k}</arg_key>\n<arg_value>{v}</arg_value>\n" for k, v in arguments.items()
        )
        return f"<tool_call>{name}\n{inner}</tool_call>"

    return "\n".join(written(*call) for call in calls)


FORMATS: dict[tuple[str | None, str | None], Callable[[Calls], str] | None] = {
    ("hermes", None): hermes,
    ("hermes", "qwen3"): hermes,
    ("hermes", "deepseek_r1"): hermes,
    ("hermes", "nemotron_v3"): hermes,
    ("qwen3_json", "qwen3"): hermes,
    ("qwen3_coder", "qwen3"): xml,
    ("qwen3_xml", None): xml,
    ("glm45", "glm45"): glm,
    (None, "qwen3"): None,
    (None, "deepseek_r1"): None,
}
WORDS = ("oslo", "é🙂", "a {b}", 'x"y', "1 < 2", "two  words", "</", "日本", "[1]", "\\n")
words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
plain_words = st.lists(st.sampled_from(WORDS[:4]), max_size=4).map(" ".join)
arguments = st.dictionaries(st.sampled_from(["city", "day"]), words, max_size=2)
calls = st.lists(st.tuples(st.sampled_from(["weather", "book_it"]), arguments), max_size=3)


@pytest.mark.parametrize("names", FORMATS, ids=str)
def test_a_stream_says_what_the_whole_says(names: tuple[str | None, str | None]) -> None:
    """Thoughts, content and calls, and every delta as strict clients want it."""
    parser_cls, write = parser_of(names), FORMATS[names]

    @random_order
    @given(thoughts=plain_words, content=plain_words, calls=calls, sizes=sizes)
    def compare(thoughts: str, content: str, calls: Calls, sizes: list[int]) -> None:
        thoughts, calls = thoughts if names[1] else "", calls if write else []
        text = f"<think>\n{thoughts}\n</think>\n\n" if names[1] else ""
        text += content + ("\n" if content and calls else "") + (write(calls) if write else "")
        meant = (content.strip(), thoughts.strip(), calls)
        assert whole(parser_cls, text).meaning() == meant
        if text:
            assert stream(by_token(parser_cls), text, sizes).meaning() == meant

    compare()


def test_what_a_parser_makes_of_a_block_without_this() -> None:
    """Fails when vLLM's parsers read blocks as they read tokens; then this module can go."""
    parser_cls = parser_of(("hermes", "deepseek_r1"))
    text = "<think>\nthoughts\n</think>\n\n" + hermes([("weather", {"city": "oslo"})])
    assert stream(parser_cls, text, [1]).reasoning.strip() == "thoughts"
    assert stream(parser_cls, text, [8]).reasoning.strip() != "thoughts"
    assert stream(by_token(parser_cls), text, [8]).reasoning.strip() == "thoughts"


def call(index: int, **fields: Any) -> DeltaToolCall:
    function = {k: fields.pop(k) for k in ("name", "arguments") if k in fields}
    return DeltaToolCall(index=index, function=DeltaFunctionCall(**function), **fields)


def test_deltas_are_merged_by_call() -> None:
    merged = merge(
        [
            DeltaMessage(content="a"),
            DeltaMessage(tool_calls=[call(0, id="x", type="function", name="f")]),
            DeltaMessage(
                reasoning="r", tool_calls=[call(0, arguments="{"), call(0, arguments="}")]
            ),
            DeltaMessage(
                content="b",
                tool_calls=[call(1, id="y", type="function", name="g"), call(1, arguments="{}")],
            ),
        ]
    )
    assert merged is not None
    assert merged.model_dump(exclude_unset=True) == {
        "content": "ab",
        "reasoning": "r",
        "tool_calls": [
            {
                "index": 0,
                "id": "x",
                "type": "function",
                "function": {"name": "f", "arguments": "{}"},
            },
            {
                "index": 1,
                "id": "y",
                "type": "function",
                "function": {"name": "g", "arguments": "{}"},
            },
        ],
    }


def test_later_deltas_say_only_what_is_new() -> None:
    merged = merge([DeltaMessage(tool_calls=[call(2, arguments=each)]) for each in ("[", "]")])
    assert merged is not None
    assert merged.model_dump(exclude_unset=True) == {
        "tool_calls": [{"index": 2, "function": {"arguments": "[]"}}]
    }


def test_nothing_is_nothing() -> None:
    assert merge([]) is None
    one = DeltaMessage(content="a")
    assert merge([one]) is one


def test_every_route_that_streams_parsed_text_is_fed_so() -> None:
    parser_cls = parser_of(("hermes", None))
    state = SimpleNamespace(
        openai_serving_chat=SimpleNamespace(parser_cls=parser_cls),
        openai_serving_responses=SimpleNamespace(parser=parser_cls),
        anthropic_serving_messages=SimpleNamespace(parser_cls=None),
    )
    feed_by_token(state)
    assert state.openai_serving_chat.parser_cls.__bases__ == (parser_cls,)
    assert state.openai_serving_responses.parser.__bases__ == (parser_cls,)
    assert state.anthropic_serving_messages.parser_cls is None
