"""Puts all of this into a server whose handlers vLLM has made."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from openai.types.responses import ResponseErrorEvent
from vllm.entrypoints.serve import create_error_response
from vllm.exceptions import VLLMClientError

from vllm_diffusion.patching import take
from vllm_diffusion.request.plan import DecodePlan
from vllm_diffusion.server import dialect, prediction
from vllm_diffusion.server.acceptance import raising
from vllm_diffusion.server.admission import Served, admit, admit_response, check_records
from vllm_diffusion.server.errors import openai_error
from vllm_diffusion.server.handlers import Handler, limit_output, wrap
from vllm_diffusion.server.infill import Form, filling, form_of
from vllm_diffusion.server.likelihood import estimating
from vllm_diffusion.server.likelihood_fields import Asked
from vllm_diffusion.server.refusal import refuse
from vllm_diffusion.server.request_models import BatchRequest, ChatRequest
from vllm_diffusion.server.token_feed import STREAMERS, feed_by_token
from vllm_diffusion.server.tool_grammar import hold_calls

HANDLERS = (
    ("openai_serving_chat", "create_chat_completion"),
    ("openai_serving_completion", "create_completion"),
    ("openai_serving_responses", "create_responses"),
    ("openai_serving_chat_batch", "create_batch_chat_completion"),
    ("anthropic_serving_messages", "create_chat_completion"),
)
"""Where vLLM's server keeps what answers requests, and the method that does."""
FRAMED = ("openai_serving_chat", "openai_serving_completion")
"""Whose streams have a place for frames."""
AS_EVENT = "_convert_generation_error_to_streaming_response"
"""Makes an event of a failed generation in the stream of a response. vLLM's own model of events
refuses it (openai/responses/serving.py:1397), so the failure itself goes on to ``failed_response``.
"""


def install(state: Any, plan: DecodePlan, served: Served, likelihood: Asked | None = None) -> None:
    """Complete every handler that the server has.

    Args:
        state: of the app.
        plan: of the model.
        served: what the server has.
        likelihood: how it estimates log-probabilities of prompts, if by default.
    """
    feed_by_token(state)
    hold_calls(state, STREAMERS)
    for name, method in HANDLERS:
        handler = getattr(state, name, None)
        if handler is None:
            continue
        _check(handler, method)
        is_response = name == "openai_serving_responses"
        check = {
            "openai_serving_responses": admit_response,
            "openai_serving_chat_batch": admit_batch,
        }.get(name, admit)
        wrapped = wrap(
            getattr(handler, method),
            partial(check, served=served, handler=handler),
            failed_response if is_response else None,
            _tokenizer_of(handler) if name in FRAMED else None,
            counts=name in FRAMED,
            has_reasoning_parser=served.has_reasoning_parser,
            remarked=partial(dialect.remarks, answer=served.foreign, longest=served.longest)
            if name in FRAMED
            else None,
        )
        if name == "anthropic_serving_messages":
            wrapped = _raising(wrapped)
        if name == "openai_serving_chat":
            wrapped = prediction.predicting(wrapped, handler)
        if name == "openai_serving_completion":
            wrapped = estimating(wrapped, handler, plan, likelihood)
        if is_response:
            _check(handler, AS_EVENT)
            setattr(handler, AS_EVENT, _raised)
        if name == "openai_serving_completion":
            wrapped = functools.wraps(wrapped)(
                filling(wrapped, _form_of(handler), _tokenizer_of(handler))
            )
        setattr(handler, method, wrapped)
        limit_output(handler.default_sampling_params, plan)
    messages = getattr(state, "anthropic_serving_messages", None)
    if messages is not None:
        for method in ("create_messages", "count_tokens"):
            setattr(messages, method, _of_anthropic(getattr(messages, method)))
        messages.to_chat_completion_request = _as_chat(messages.to_chat_completion_request)


def admit_batch(request: BatchRequest, served: Served, handler: Any = None) -> None:
    """Refuse what ``admit`` does of each chat, and what a batch has no place for."""
    expected = (request.model_extra or {}).get(prediction.FIELD)
    if expected is not None:
        raise refuse(prediction.FIELD, expected, "several chats have none; send one chat")
    for chat in request.messages[:1]:
        admit(request.to_chat_completion_request(chat), served, handler)


def _tokenizer_of(handler: Any) -> Callable[[], Any]:
    return lambda: handler.renderer.tokenizer


def _form_of(handler: Any) -> Form | None:
    """How the server's model is asked to fill in, if it has learned to."""
    return form_of(handler.model_config.hf_config, handler.renderer.tokenizer)


def _check(handler: Any, method: str) -> None:
    """Has vLLM this method still?"""
    take(next((c for c in type(handler).__mro__ if method in vars(c)), type(handler)), method)


def _raised(error: Exception) -> Any:
    raise error


def failed_response(error: Exception, num_sent: int) -> ResponseErrorEvent:
    """An event that ends the stream of a response, which would break off."""
    made = create_error_response(error).error
    said = openai_error(made.code, made.message, made.param)
    return ResponseErrorEvent(
        type="error",
        code=said["code"],
        message=said["message"] or "",
        param=said["param"],
        sequence_number=num_sent,
    )


def _raising(handler: Handler) -> Handler:
    """Error events reach vLLM's translation to Anthropic's events as exceptions, which it tells."""

    @functools.wraps(handler)
    async def answer(*args: Any, **kwargs: Any) -> Any:
        response = await handler(*args, **kwargs)
        return raising(response) if isinstance(response, AsyncGenerator) else response

    return answer


def _of_anthropic(handler: Handler) -> Handler:
    """Anthropic's own fields are checked; what is refused is no error of the server's."""

    @functools.wraps(handler)
    async def answer(request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            check_records(request, "messages")
            response = await handler(request, *args, **kwargs)
        except VLLMClientError as error:
            return create_error_response(error)
        return _named(response) if isinstance(response, AsyncGenerator) else response

    return answer


async def _named(events: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """Error events with Anthropic's word for an error of the server's."""
    async with aclosing(events):
        async for event in events:
            is_error = event.startswith("event: error\n")
            yield event.replace('"internal_error"', '"api_error"', 1) if is_error else event


def _as_chat(convert: Any) -> Any:
    """Anthropic's request as this package's chat, with all of its stop strings."""

    def converted(request: Any, **kwargs: Any) -> ChatRequest:
        stops = getattr(request, "stop_sequences", None)
        plain = request.model_copy(update={"stop_sequences": None}) if stops else request
        chat = convert(plain, **kwargs)
        values = {name: getattr(chat, name) for name in type(chat).model_fields}
        # Said as both, it would be refused by a name that the client did not send.
        values |= {"stop": stops or [], "max_completion_tokens": None}
        made = ChatRequest.model_construct(_fields_set=chat.model_fields_set, **values)
        config = getattr(request, "output_config", None)
        if config is not None and config.effort is not None and chat.reasoning_effort is not None:
            made.take_level()
        return made

    return converted
