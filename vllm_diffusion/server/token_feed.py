"""vLLM's tool and reasoning parsers, fed token by token whatever a chunk holds.

A stream of a diffusion model has a block of tokens in each chunk. vLLM's parsers
were written for autoregressive streams; several misplace text when a chunk holds
more than one token: DeepSeek-R1's for one leaves the tag that opens a thought in
the thought. So a chunk is taken apart into the deltas that an autoregressive
stream would have had, and what the parser makes of them goes out as one delta.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from vllm.entrypoints.generate.base.protocol import DeltaFunctionCall, DeltaMessage, DeltaToolCall
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

if TYPE_CHECKING:
    from vllm.parser.abstract_parser import Parser

STREAMERS = (
    ("openai_serving_chat", "parser_cls"),
    ("openai_serving_responses", "parser"),
    ("anthropic_serving_messages", "parser_cls"),
)
"""Where vLLM's server keeps what streams parsed text, and the attribute with the parser's class."""

COUNTS_STREAM = "_streaming_count_valid"
"""Where vLLM's parser engines say that they have counted along."""


class Splitter:
    """The text of each token of one stream, as if tokens had come one at a time.

    vLLM's own detokenizer says how much text there is after a token. Of it, as
    many characters are held back as vLLM holds back for stop strings. What the
    chunk says always wins: pieces are cut from its text, the last gets the rest.
    """

    def __init__(self, tokenizer: Any, request: Any, prompt_ids: Sequence[int] | None) -> None:
        params = SamplingParams(
            skip_special_tokens=getattr(request, "skip_special_tokens", True),
            spaces_between_special_tokens=getattr(request, "spaces_between_special_tokens", True),
        )
        asked: Any = SimpleNamespace(
            request_id="", sampling_params=params, prompt_token_ids=prompt_ids, prompt_embeds=None
        )
        self._detokenizer: Any = IncrementalDetokenizer.from_new_request(tokenizer, asked)
        self._num_made = 0
        self._num_given = 0
        stop = getattr(request, "stop", None) or []
        stops = [stop] if isinstance(stop, str) else stop
        is_kept = getattr(request, "include_stop_str_in_output", False)
        self._num_held = 0 if is_kept else max((len(each) - 1 for each in stops), default=0)

    def split(self, text: str, token_ids: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
        """Pairs of text and one token, which together are the chunk; at least one pair."""
        start = self._num_given
        self._num_given += len(text)
        place = 0
        for token_id in token_ids[:-1]:
            end = min(self._text_after(token_id) - self._num_held - start, len(text))
            yield text[place : max(place, end)], [token_id]
            place = max(place, end)
        for token_id in token_ids[-1:]:
            self._text_after(token_id)
        yield text[place:], list(token_ids[-1:])

    def _text_after(self, token_id: int) -> int:
        """Characters of output up to and with the next token."""
        self._detokenizer.token_ids.append(token_id)
        self._num_made += len(self._detokenizer.decode_next(token_id))
        return self._num_made


def merge(deltas: Sequence[DeltaMessage]) -> DeltaMessage | None:
    """One delta that says what several say in turn; None where none says anything.

    A call's first delta keeps its id, type and name; a field that no delta has
    set is not set.
    """
    if len(deltas) < 2:
        return deltas[0] if deltas else None
    merged = deltas[0].model_copy()
    calls: dict[int, DeltaToolCall] = {}
    for delta in deltas:
        for call in delta.tool_calls or ():
            if call.index in calls:
                _extend(calls[call.index], call)
            else:
                calls[call.index] = call.model_copy(deep=True)
    if calls:
        merged.tool_calls = list(calls.values())
    for delta in deltas[1:]:
        for name in ("content", "reasoning"):
            if (said := getattr(delta, name)) is not None:
                setattr(merged, name, (getattr(merged, name) or "") + said)
    return merged


def _extend(call: DeltaToolCall, more: DeltaToolCall) -> None:
    for name in ("id", "type"):
        if getattr(call, name) is None and getattr(more, name) is not None:
            setattr(call, name, getattr(more, name))
    if more.function is None:
        return
    if call.function is None:
        call.function = DeltaFunctionCall()
    if more.function.name is not None:
        call.function.name = (call.function.name or "") + more.function.name
    if more.function.arguments is not None:
        call.function.arguments = (call.function.arguments or "") + more.function.arguments


def by_token(parser_cls: type[Parser]) -> type[Parser]:
    """The same parser, which takes chunks apart before it reads them."""

    class ByToken(parser_cls):  # type: ignore[misc, valid-type]
        _splitter: Splitter | None = None

        def parse_delta(
            self,
            delta_text: str,
            delta_token_ids: list[int],
            request: Any,
            prompt_token_ids: list[int] | None = None,
            *,
            finished: bool,
        ) -> DeltaMessage | None:
            if self._splitter is None:
                self._splitter = Splitter(self.model_tokenizer, request, prompt_token_ids)
            pieces = list(self._splitter.split(delta_text, delta_token_ids))
            deltas = [
                super(ByToken, self).parse_delta(
                    text,
                    token_ids,
                    request,
                    prompt_token_ids,
                    finished=finished and number == len(pieces),
                )
                for number, (text, token_ids) in enumerate(pieces, start=1)
            ]
            return merge([delta for delta in deltas if delta is not None])

        def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
            """Counted over the whole output, as for a response that is not streamed.

            vLLM 0.32's count along a stream leaves out tokens that bring no text, such as the
            first bytes of a character; in blocks nobody would see them apart.
            """
            reader: Any = getattr(self, "_reasoning_parser", None)
            is_streamed = getattr(reader, COUNTS_STREAM, False)
            if is_streamed:
                setattr(reader, COUNTS_STREAM, False)
            try:
                return int(super().count_reasoning_tokens(token_ids))
            finally:
                if is_streamed:
                    setattr(reader, COUNTS_STREAM, True)

    ByToken.__name__ = ByToken.__qualname__ = parser_cls.__name__
    return ByToken


def feed_by_token(state: Any) -> None:
    """Have every route of a server that streams parsed text do so."""
    for name, attribute in STREAMERS:
        handler = getattr(state, name, None)
        if handler is not None and (parser_cls := getattr(handler, attribute)) is not None:
            setattr(handler, attribute, by_token(parser_cls))
