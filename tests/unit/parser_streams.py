"""A stream of tokens through vLLM's detokenizer and parsers, in chunks of any sizes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

from tests.checkpoints.tokenizer import vocabulary

PROMPT = "a question\n"
MARKS = (
    "<think> </think> <tool_call> </tool_call> <tool_response> </tool_response> <|im_start|> "
    "<|im_end|> <|endoftext|>"
).split()
"""What released tokenizers of the families have as one token."""
OTHERS = (
    "<｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> <｜tool▁call▁end｜> "  # noqa: RUF001
    "<tool_calls> </tool_calls> <tool_sep> <arg_key> </arg_key> <arg_value> </arg_value> "
    "<|tool_call_start|> <|tool_call_end|> <|python_tag|> [TOOL_CALLS] [ARGS] [THINK] [/THINK] "
    "<mm:think> </mm:think> <assistant>"
).split()
"""What those of other models have, without which their parsers cannot be made."""

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "day": {"type": "string"}},
            },
        },
    }
    for name in ("weather", "book_it")
]


@cache
def tokenizer() -> Any:
    """Bytes and pairs of letters, and each mark as one token."""
    ids, merges = vocabulary({}, 512)
    made = Tokenizer(models.BPE(vocab=ids, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_tokens([AddedToken(mark, normalized=False) for mark in (*MARKS, *OTHERS)])
    return PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False)


def request(**fields: Any) -> ChatCompletionRequest:
    """A chat with tools, as it is when its parser has adjusted it."""
    messages = [{"role": "user", "content": "a question"}]
    asked = {"messages": messages, "tools": TOOLS, "skip_special_tokens": False} | fields
    return ChatCompletionRequest.model_validate(asked)


@dataclass
class Parsed:
    """What a client makes of a response."""

    content: str = ""
    reasoning: str = ""
    calls: list[list[str]] = field(default_factory=list)
    """Names and arguments, as text."""

    def meaning(self) -> tuple[str, str, list[tuple[str, Any]]]:
        """Without whitespace around texts and within JSON."""
        calls = [(name, json.loads(arguments or "{}")) for name, arguments in self.calls]
        return self.content.strip(), self.reasoning.strip(), calls


def chunks(sizes: Sequence[int], token_ids: Sequence[int]) -> Iterator[list[int]]:
    """Consecutive tokens; sizes in turn, from the first again after the last."""
    start = number = 0
    while start < len(token_ids):
        size = sizes[number % len(sizes)]
        yield list(token_ids[start : start + size])
        start, number = start + size, number + 1


def stream(parser_cls: Any, text: str, sizes: Sequence[int], **fields: Any) -> Parsed:
    """What comes of ``text`` streamed in chunks of ``sizes`` tokens.

    The text of a chunk is what vLLM's engine would give it, held back for stop
    strings and cut at one.

    Raises:
        AssertionError: a delta of a call that strict clients refuse.
    """
    made = tokenizer()
    asked = request(**fields)
    parser = parser_cls(made, asked.tools, chat_template_kwargs={}, model_config=None)
    prompt_ids = made.encode(PROMPT)
    params = SamplingParams(stop=asked.stop, skip_special_tokens=False, max_tokens=10_000)
    source: Any = SimpleNamespace(
        request_id="", sampling_params=params, prompt_token_ids=prompt_ids, prompt_embeds=None
    )
    detokenizer = IncrementalDetokenizer.from_new_request(made, source)
    parsed = Parsed()
    parts = list(chunks(sizes, made.encode(text)))
    for number, part in enumerate(parts, start=1):
        before = detokenizer.num_output_tokens()
        is_stopped = detokenizer.update(part, False) is not None
        finished = is_stopped or number == len(parts)
        delta = parser.parse_delta(
            detokenizer.get_next_output_text(finished, True),
            detokenizer.output_token_ids[before:],
            asked,
            prompt_ids,
            finished=finished,
        )
        if delta is not None:
            add(parsed, delta)
        if finished:
            break
    return parsed


def add(parsed: Parsed, delta: Any) -> None:
    parsed.content += delta.content or ""
    parsed.reasoning += delta.reasoning or ""
    for call in delta.tool_calls or ():
        if call.index == len(parsed.calls):
            assert call.id, "the first delta of a call has its id"
            assert (call.type, bool(call.function.name)) == ("function", True)
            parsed.calls.append([call.function.name, ""])
        else:
            assert call.index < len(parsed.calls), "calls come in their order"
            assert not call.function.name, "a call is named once"
        parsed.calls[call.index][1] += call.function.arguments or ""


def whole(parser_cls: Any, text: str, **fields: Any) -> Parsed:
    """What comes of ``text`` in one piece, without streaming."""
    made = tokenizer()
    asked = request(**fields)
    parser = parser_cls(made, asked.tools, chat_template_kwargs={}, model_config=None)
    reasoning, content, calls = parser.parse(
        text, asked, enable_auto_tools=True, model_output_token_ids=made.encode(text)
    )
    named = [[call.name, call.arguments] for call in calls or ()]
    return Parsed(content or "", reasoning or "", named)
