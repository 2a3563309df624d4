"""vLLM's request models, as far as they must be stricter, or read more, for our models.

Routes read these in place of vLLM's (``routes``).
"""

from __future__ import annotations

from dataclasses import fields as fields_of
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StrictBool, model_validator
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)
from vllm.entrypoints.generate.base.protocol import StreamOptions
from vllm.entrypoints.openai.chat_completion.protocol import (
    BatchChatCompletionRequest,
    ChatCompletionRequest,
)
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.sampling_params import StructuredOutputsParams

from vllm_diffusion.request.quote import close_to, quoted
from vllm_diffusion.request.sampling import SAMPLING_PARSERS
from vllm_diffusion.server.merging import merged
from vllm_diffusion.server.reasoning import LEVEL
from vllm_diffusion.server.refusal import RefusedError

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams


class WatchedOptions(StreamOptions):
    """Of a stream, with this package's frames (``frame_events``)."""

    diffusion_frames: StrictBool | float | None = None


MAX_STOPS = 64
"""Stop strings of a request; vLLM's 4 are OpenAI's, and lm-eval's HumanEval sends 5."""
Stops = Annotated[list[str], Field(max_length=MAX_STOPS)]
_EFFORT: Any = ChatCompletionRequest.model_fields["reasoning_effort"].annotation
_MALFORMED = (AttributeError, KeyError, IndexError, TypeError, OverflowError, RecursionError)
_GRAMMAR_FIELDS = [f.name for f in fields_of(StructuredOutputsParams) if f.init]


class Checked(BaseModel):
    """What every request is checked for before vLLM's own validators see it."""

    @model_validator(mode="wrap")
    @classmethod
    def _name_malformed(cls, data: Any, handler: Any) -> Any:
        """vLLM's validators take for granted that objects have the shapes that they look into."""
        try:
            return handler(data)
        except _MALFORMED as error:
            said = f"{type(error).__name__}: {error}"
            raise RefusedError(f"the request is malformed ({said})") from error

    @model_validator(mode="before")
    @classmethod
    def _check_grammar(cls, data: Any) -> Any:
        asked = data.get("structured_outputs") if isinstance(data, dict) else None
        if asked is None or isinstance(asked, StructuredOutputsParams):
            return data
        name = "structured_outputs"
        if not isinstance(asked, dict):
            message = f"{name}={quoted(asked)} is not valid: it must be an object"
            raise RefusedError(message, parameter=name)
        for key in asked:
            if key not in _GRAMMAR_FIELDS:
                close = close_to(key, _GRAMMAR_FIELDS)
                known = ", ".join(_GRAMMAR_FIELDS)
                remedy = f"did you mean {close}?" if close else f"known are {known}"
                message = f"{name}.{key}={quoted(asked[key])}: this field is not known; {remedy}"
                raise RefusedError(message, parameter=f"{name}.{key}")
        return data


class Sampling(BaseModel):
    """Sampling fields that vLLM's models lack, those of ``request.sampling``."""

    top_n_sigma: float | None = None

    def into(self, params: SamplingParams, level: str | None = None) -> SamplingParams:
        """vLLM's parameters with what these say, and with a level of effort."""
        said = {name: getattr(self, name) for name in SAMPLING_PARSERS} | {LEVEL: level}
        said = {name: value for name, value in said.items() if value is not None}
        if said:
            params.extra_args = {**(params.extra_args or {}), **said}
        return params


class ChatRequest(Checked, Sampling, ChatCompletionRequest):
    """Of a chat, with Mercury's level and a meaning for all of them."""

    stop: str | Stops | None = []
    stream_options: WatchedOptions | None = None
    reasoning_effort: _EFFORT | Literal["instant"] = None

    _level: str | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _take_level(self) -> Self:
        self.take_level()
        return self

    def take_level(self) -> None:
        """Keep what the client said, for a level of refinement."""
        self._level = self.reasoning_effort
        if self.reasoning_effort == "instant":
            # Chat templates know how to turn thinking off, by OpenAI's word for it.
            self.reasoning_effort = "none"

    def to_sampling_params(self, *args: Any, **kwargs: Any) -> SamplingParams:
        """vLLM's, and what it lacks."""
        return self.into(super().to_sampling_params(*args, **kwargs), self._level)

    @model_validator(mode="wrap")
    @classmethod
    def _merge(cls, data: Any, handler: Any) -> Any:
        """The last to wrap, so that all other validators see what it brings."""
        return handler(merged(data))


class BatchRequest(Checked, Sampling, BatchChatCompletionRequest):
    """Of several chats at once."""

    stop: str | Stops | None = Field(default_factory=list)

    def to_chat_completion_request(self, messages: list[Any]) -> ChatRequest:
        """One of them, with every field that was said."""
        said = {name: getattr(self, name) for name in self.model_fields_set if name != "messages"}
        if said.get("stream"):
            message = "stream=True is not supported for several chats at once; leave it out"
            raise RefusedError(message, parameter="stream")
        if said.get("tools"):
            message = "tools are not supported for several chats at once; send one chat"
            raise RefusedError(message, parameter="tools")
        return ChatRequest.model_validate(said | {"messages": messages})


class TextRequest(Checked, Sampling, CompletionRequest):
    """Of a completion."""

    stop: str | Stops | None = []
    stream_options: WatchedOptions | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _read_passages(cls, data: Any, handler: Any) -> Any:
        """A text may stand behind the cursor alone; vLLM wants a prompt that is not empty.

        Editors send an empty suffix whether or not there is text behind the cursor.
        """
        if not isinstance(data, dict):
            return handler(data)
        if data.get("suffix") == "":
            data = {name: value for name, value in data.items() if name != "suffix"}
        if data.get("prompt", "") != "" or not cls.has_passages(data):
            return handler(data)
        made = handler({**data, "prompt": " "})
        made.prompt = ""
        return made

    @classmethod
    def has_passages(cls, data: dict[str, Any]) -> bool:
        """Is there text behind the hole?"""
        return bool(data.get("suffix"))

    def to_sampling_params(self, *args: Any, **kwargs: Any) -> SamplingParams:
        """vLLM's, and what it lacks."""
        return self.into(super().to_sampling_params(*args, **kwargs))

    @model_validator(mode="wrap")
    @classmethod
    def _merge(cls, data: Any, handler: Any) -> Any:
        """The last to wrap, so that all other validators see what it brings."""
        return handler(merged(data))


class ResponseRequest(Checked, Sampling, ResponsesRequest):
    """Of OpenAI's responses; ``reasoning.effort`` is a chat's ``reasoning_effort``."""

    stop: str | Stops | None = []

    _level: str | None = PrivateAttr(default=None)

    @model_validator(mode="wrap")
    @classmethod
    def _take_level(cls, data: Any, handler: Any) -> Any:
        reasoning = data.get("reasoning") if isinstance(data, dict) else None
        level = reasoning.get("effort") if isinstance(reasoning, dict) else None
        if isinstance(reasoning, dict) and level == "instant":
            data = data | {"reasoning": reasoning | {"effort": "none"}}
        made = handler(data)
        made._level = level
        return made

    def to_sampling_params(self, *args: Any, **kwargs: Any) -> SamplingParams:
        """vLLM's, and what it lacks."""
        return self.into(super().to_sampling_params(*args, **kwargs), self._level)

    @model_validator(mode="wrap")
    @classmethod
    def _merge(cls, data: Any, handler: Any) -> Any:
        """The last to wrap, so that all other validators see what it brings."""
        return handler(merged(data))


class MessagesRequest(Checked, AnthropicMessagesRequest):
    """Of Anthropic's messages; vLLM's drops what it does not know."""

    model_config = ConfigDict(extra="allow")

    stop_sequences: Stops | None = None


class CountRequest(Checked, AnthropicCountTokensRequest):
    """Of a count of a message's tokens."""

    model_config = ConfigDict(extra="allow")


BY_PATH: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/chat/completions/batch": BatchRequest,
    "/v1/completions": TextRequest,
    "/v1/responses": ResponseRequest,
    "/v1/messages": MessagesRequest,
    "/v1/messages/count_tokens": CountRequest,
}
"""What each route reads."""
