"""Fields of an HTTP request that would be ignored are refused, by the records of ``fields``.

Runs on vLLM's request models, of our models' servers alone, before any work.
What becomes a sampling parameter is checked in ``validation``, for ``LLM()`` too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from vllm.exceptions import VLLMValidationError

from vllm_diffusion.params import PREFIX
from vllm_diffusion.server.fields import OTHERS, RECORDS, Field
from vllm_diffusion.server.sampling_fields import is_said
from vllm_diffusion.wording import WORDING_PARSERS

if TYPE_CHECKING:
    from vllm.config import VllmConfig

    from vllm_diffusion.plan import DecodePlan

PARSER_KWARGS = frozenset(
    "enable_thinking thinking thinking_mode reasoning_effort force_nonempty_content".split()
)
"""What vLLM's reasoning parsers read of ``chat_template_kwargs``, beside the template."""
XARGS = ("kv_cache_report_mode",)
"""What vLLM itself reads of ``vllm_xargs``."""
NESTED = ("stream_options", "response_format")
"""Objects of a request whose unknown keys vLLM would drop; a tool's go to the chat template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What of the server decides whether a field means something."""

    has_prompt_scores: bool
    """Does a row of the prompt predict its next token."""
    has_priorities: bool = False
    has_kv_connector: bool = False
    has_reasoning_parser: bool = False

    @classmethod
    def of(cls, vllm_config: VllmConfig, plan: DecodePlan) -> Served:
        return cls(
            has_prompt_scores=plan.record.mask_group == "causal_context",
            has_priorities=vllm_config.scheduler_config.policy == "priority",
            has_kv_connector=vllm_config.kv_transfer_config is not None,
            has_reasoning_parser=bool(vllm_config.structured_outputs_config.reasoning_parser),
        )


def _refuse(field: str, value: object, remedy: str) -> VLLMValidationError:
    return VLLMValidationError(
        f"{field}={value!r} is not supported for diffusion models: {remedy}",
        parameter=field,
        value=value,
    )


def admit(request: Any, served: Served, handler: Any = None) -> None:
    """Refuse what nobody would read; the request is else as it was.

    Only a chat's ``echo`` is mended: vLLM takes it as asking for the prompt's
    log-probabilities, although none were asked for.

    Args:
        request: vLLM's ``ChatCompletionRequest`` or ``CompletionRequest``.
        served: of the server.
        handler: vLLM's, which knows the chat template; None leaves the template unasked.

    Raises:
        VLLMValidationError: with the first such field, its value and the remedy.
    """
    is_chat = hasattr(request, "messages")
    records = RECORDS["chat" if is_chat else "completion"]
    for field, value, known in _extras(request):
        _check_extra(field, value, known)
    for field, record in records.items():
        if record.nothing is not None:
            _check(field, getattr(request, field, None), record)
    for key, value in (request.vllm_xargs or {}).items():
        if not key.startswith(PREFIX) and key not in XARGS:
            remedy = f"vllm_xargs carries the {PREFIX}* fields alone; other fields stand beside it"
            raise _refuse(f"vllm_xargs.{key}", value, remedy)
    _check_depending(request, served)
    _check_wording(request)
    if is_chat:
        _check_tool_choice(request)
        if handler is not None:
            _check_template(request, served, handler)
        if request.echo and not served.has_prompt_scores:
            request.top_logprobs = None


def _check(field: str, value: object, record: Field) -> None:
    is_refused = record.nothing is not None and value not in record.nothing
    if not is_refused or not is_said(value):
        return
    raise _refuse(field, value, record.says)


def _extras(request: Any) -> Iterator[tuple[str, Any, list[str]]]:
    """Fields that vLLM's models do not have, and those they have: also of objects within."""
    for name, place in (
        (None, request),
        *((name, getattr(request, name, None)) for name in NESTED),
    ):
        prefix = f"{name}." if name else ""
        for field, value in (getattr(place, "model_extra", None) or {}).items():
            yield prefix + field, value, [prefix + known for known in type(place).model_fields]


def _check_extra(field: str, value: object, known: Sequence[str]) -> None:
    if field.startswith(PREFIX):
        example = json.dumps({"vllm_xargs": {field: value}})
        raise VLLMValidationError(
            f"{field} belongs into vllm_xargs: {example}", parameter=field, value=value
        )
    if field in OTHERS:
        _check(field, value, OTHERS[field])
    elif value is not None:
        raise VLLMValidationError(
            f"{field}={value!r}: {_unknown(field, known)}", parameter=field, value=value
        )


def _unknown(field: str, known: Sequence[str]) -> str:
    if any(field in records for records in RECORDS.values()):
        return "this route has no such field, though the other of chats and completions has"
    close = get_close_matches(field, known, n=1, cutoff=0.75)
    meant = f"; did you mean {close[0]}?" if close else ", and it would be ignored; leave it out"
    return f"this field is not known{meant}"


def _check_depending(request: Any, served: Served) -> None:
    """Fields that mean something on other servers, or with other models."""
    if request.priority and not served.has_priorities:
        remedy = "this server takes requests as they come; it needs --scheduling-policy priority"
        raise _refuse("priority", request.priority, remedy)
    if request.kv_transfer_params and not served.has_kv_connector:
        remedy = "this server transfers no K and V; it needs --kv-transfer-config"
        raise _refuse("kv_transfer_params", request.kv_transfer_params, remedy)
    # A chat's logprobs are a switch, a completion's a number, of which 0 asks for the token's own.
    wants_scores = request.logprobs is not None and request.logprobs is not False
    if request.echo and wants_scores and not served.has_prompt_scores:
        remedy = (
            "with logprobs it asks for the prompt's log-probabilities, and this model does not "
            "read its prompt from left to right; leave one of the two out"
        )
        raise _refuse("echo", True, remedy)


def _check_wording(request: Any) -> None:
    """Calls have a form of their own."""
    said = [
        PREFIX + name for name in WORDING_PARSERS if PREFIX + name in (request.vllm_xargs or {})
    ]
    if said and getattr(request, "tools", None) and request.tool_choice != "none":
        remedy = f"together with {said[0]} it asks for two forms of the text; choose one"
        raise _refuse("tools", [tool.function.name for tool in request.tools], remedy)


def _check_tool_choice(request: Any) -> None:
    """A call that must come leaves no room for another form of the text."""
    choice = request.tool_choice
    if choice in (None, "none", "auto") or request.extract_structured_outputs() is None:
        return
    said = "structured_outputs" if request.structured_outputs is not None else "response_format"
    named = choice if choice == "required" else choice.function.name
    raise _refuse(
        "tool_choice", named, f"together with {said} it asks for two forms of the text; choose one"
    )


def _check_template(request: Any, served: Served, handler: Any) -> None:
    """A template that the server does not take, and values that the chat template does not read."""
    if request.chat_template is not None and not handler.trust_request_chat_template:
        remedy = "this server takes no template of requests; it needs --trust-request-chat-template"
        raise _refuse("chat_template", request.chat_template, remedy)
    given = {
        name: value
        for name, value in (request.chat_template_kwargs or {}).items()
        if value is not None and value is not False
    }
    template = _template_of(request, handler) if given or request.documents else None
    if template is None:
        return
    remedy = "this model's chat template does not read it; leave it out"
    if request.documents and "documents" not in template:
        raise _refuse("documents", request.documents, remedy)
    read_by_parser = PARSER_KWARGS if served.has_reasoning_parser else frozenset()
    for name in sorted(_unread(given, template, handler) - read_by_parser):
        raise _refuse(f"chat_template_kwargs.{name}", given[name], remedy)


def _template_of(request: Any, handler: Any) -> str | None:
    from vllm.renderers.hf import resolve_chat_template

    found: str | None = resolve_chat_template(
        handler.renderer.tokenizer,
        request.chat_template or handler.chat_template,
        [{}] if request.tools else None,
        model_config=handler.model_config,
    )
    return found


def _unread(given: Mapping[str, Any], template: str, handler: Any) -> set[str]:
    from jinja2 import TemplateError
    from vllm.renderers.hf import resolve_chat_template_kwargs

    try:
        read = resolve_chat_template_kwargs(
            handler.renderer.tokenizer, template, given, raise_on_unexpected=False
        )
    except TemplateError:
        return set()  # vLLM refuses it with what is wrong.
    return given.keys() - read.keys()
