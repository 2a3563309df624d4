"""Tool and reasoning parsers give the same in blocks as token by token, and as in one piece.

For every parser that vLLM registers the chunks are compared; for the formats that
the supported families' chat templates ask for, the whole text too. Qwen's JSON
(``hermes``) is that of SDAR, DreamReasoner, Fast-dLLM v2, Dream, RND1 and CoDA,
and, by the templates that ship with them, of LLaDA2; thoughts are Qwen3's.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the parsers are vLLM's")

from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.entrypoints.generate.base.protocol import DeltaFunctionCall, DeltaMessage, DeltaToolCall
from vllm.parser.parser_manager import ParserManager
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

from tests.unit.parser_streams import MARKS, Parsed, stream, whole
from vllm_diffusion.server.token_feed import by_token, feed_by_token, merge

Names = tuple[str | None, str | None]
"""Of the tool parser and the reasoning parser."""

BLOCKS = ([1], [2], [4], [8], [16], [32], [64], [3, 7, 1, 30])
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


def parser_of(names: Names) -> Any:
    tool, reasoning = names
    return ParserManager.get_parser(tool, reasoning, enable_auto_tools=tool is not None)


def outcome(*args: Any, **fields: Any) -> Any:
    """What is parsed; of a parser that fails at what it is given, how."""
    try:
        return stream(*args, **fields)
    except Exception as error:
        return type(error).__name__
