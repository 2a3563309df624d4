"""Fields of an HTTP request that would be ignored are refused, by the records of ``fields``.

Runs on vLLM's request models, of our models' servers alone, before any work.
What becomes a sampling parameter is checked in ``validation``, for ``LLM()`` too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_diffusion.request.features import is_said
from vllm_diffusion.request.params import PREFIX
from vllm_diffusion.request.quote import LONGEST, close_to, quoted
from vllm_diffusion.server import dialect, drafts, early
from vllm_diffusion.server.fields import OTHERS_OF, RECORDS, Field
from vllm_diffusion.server.forms import check_forms, check_tools_of_response
from vllm_diffusion.server.refusal import RefusedError, refuse
from vllm_diffusion.server.templates import check_template

if TYPE_CHECKING:
    from vllm.config import VllmConfig

    from vllm_diffusion.request.plan import DecodePlan

XARGS = ("kv_cache_report_mode",)
"""What vLLM itself reads of ``vllm_xargs``."""
NESTED = ("stream_options", "response_format", "thinking", "output_config", "reasoning", "text")
"""Objects of a request whose unknown keys vLLM would drop; a tool's go to the chat template."""
HTTP_BIAS = 100.0
"""vLLM cuts what is said over HTTP to it, which is OpenAI's range."""
ROUTES = {"chat": "chats", "completion": "completions", "responses": "responses"}
"""As messages call them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What of the server decides whether a field means something."""

    has_prompt_scores: bool
    """Does a row of the prompt predict its next token."""
    has_priorities: bool = False
    has_kv_connector: bool = False
    has_reasoning_parser: bool = False
    foreign: dialect.Answer = "refuse"
    """What becomes of fields that other servers know."""
    longest: int = 1 << 31
    """Tokens of the context."""

    @classmethod
    def of(cls, vllm_config: VllmConfig, plan: DecodePlan) -> Served:
        return cls(
            has_prompt_scores=plan.record.mask_group.has_causal_context,
            has_priorities=vllm_config.scheduler_config.policy == "priority",
            has_kv_connector=vllm_config.kv_transfer_config is not None,
            has_reasoning_parser=bool(vllm_config.structured_outputs_config.reasoning_parser),
            foreign=dialect.answer_of(vllm_config.additional_config),
            longest=vllm_config.model_config.max_model_len,
        )


def admit(request: Any, served: Served, handler: Any = None) -> None:
    """Refuse what nobody would read of a chat or a completion; the request is else as it was.

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
    check_records(request, "chat" if is_chat else "completion")
    _check_depending(request, served)
    if is_chat:
        drafts.check(request, has_reasoning_parser=served.has_reasoning_parser)
        early.check(request)
        check_forms(request)
        if handler is not None:
            has_parser = served.has_reasoning_parser
            check_template(request, handler, has_reasoning_parser=has_parser)
        if request.echo and not served.has_prompt_scores:
            request.top_logprobs = None


def admit_response(request: Any, served: Served, handler: Any = None) -> None:
    """The same for ``ResponsesRequest``."""
    check_records(request, "responses")
    _check_depending(request, served)
    said, stores = request.model_fields_set, getattr(handler, "enable_store", False)
    for field in ("store", "background", "previous_response_id"):
        if field in said and getattr(request, field) and not stores:
            remedy = "this server keeps no answers; leave it out"
            raise refuse(field, getattr(request, field), remedy)
    summary = request.reasoning and (
        request.reasoning.summary or request.reasoning.generate_summary
    )
    if summary not in (None, "auto"):
        raise refuse("reasoning.summary", summary, "thoughts are not summed up; leave it out")
    verbosity = request.text and request.text.verbosity
    if verbosity not in (None, "medium"):
        remedy = "say in the prompt how long the answer should be"
        raise refuse("text.verbosity", verbosity, remedy)
    check_tools_of_response(request)
    check_forms(request)
    if handler is not None:
        check_template(request, handler, has_reasoning_parser=served.has_reasoning_parser)


def check_records(request: Any, route: str) -> None:
    """Refuse what a route's records do."""
    for field, value, known in (*_extras(request), *_gained(request, route)):
        _check_extra(field, value, known, route)
    for field, record in RECORDS[route].items():
        if record.neutral_values is not None:
            _check(field, getattr(request, field, None), record)
    for key, value in (getattr(request, "vllm_xargs", None) or {}).items():
        if not key.startswith(PREFIX) and key not in XARGS:
            remedy = f"vllm_xargs carries the {PREFIX}* fields alone; other fields stand beside it"
            raise refuse(f"vllm_xargs.{key}", value, remedy)
    _check_bias(getattr(request, "logit_bias", None))


def _check(field: str, value: object, record: Field) -> None:
    is_refused = record.neutral_values is not None and value not in record.neutral_values
    if is_refused and is_said(value):
        raise refuse(field, value, record.reason)


def _gained(request: Any, route: str) -> Iterator[tuple[str, Any, list[str]]]:
    """Fields that a newer vLLM's model has, and that have no record: as if it had them not."""
    records, fields = RECORDS[route], type(request).model_fields
    for field in sorted(request.model_fields_set - records.keys()):
        if field in fields:
            yield field, getattr(request, field), [*records]


def _extras(request: Any) -> Iterator[tuple[str, Any, list[str]]]:
    """Fields that vLLM's models do not have, and those they have: also of objects within."""
    for name, place in (
        (None, request),
        *((name, getattr(request, name, None)) for name in NESTED),
    ):
        prefix = f"{name}." if name else ""
        for field, value in (getattr(place, "model_extra", None) or {}).items():
            yield prefix + field, value, [prefix + known for known in type(place).model_fields]


def _check_extra(field: str, value: object, known: Sequence[str], route: str) -> None:
    if field.startswith(PREFIX):
        example = json.dumps({"vllm_xargs": {field: value}})
        shown = example if len(example) <= LONGEST else f'{{"vllm_xargs": {{"{field}": ...}}}}'
        raise RefusedError(
            f"{field} belongs into vllm_xargs: {shown}", parameter=field, value=value
        )
    if field in OTHERS_OF[route]:
        _check(field, value, OTHERS_OF[route][field])
    elif value is not None:
        message = f"{field}={quoted(value)}: {_unknown(field, known, route)}"
        raise RefusedError(message, parameter=field, value=value)


def _unknown(field: str, known: Sequence[str], route: str) -> str:
    if dialect.is_foreign(field):
        option = f'--additional-config \'{{"{dialect.OPTION}": "warn"}}\''
        return (
            "another server's field, which asks for nothing here; leave it out, or serve with "
            f"{option}"
        )
    close = close_to(field, known)
    meant = f"; did you mean {close}?" if close else None
    has = [name for each, name in ROUTES.items() if each != route and field in RECORDS[each]]
    if has:
        return f"this route has no such field, though {' and '.join(has)} have it{meant or ''}"
    return f"this field is not known{meant or ', and it would be ignored; leave it out'}"


def _check_bias(bias: Mapping[str, float] | None) -> None:
    """Here, since vLLM cuts a bias before it becomes a sampling parameter."""
    for token, value in (bias or {}).items():
        if not math.isfinite(value) or abs(value) > HTTP_BIAS:
            remedy = f"a bias is a number from {-HTTP_BIAS:g} to {HTTP_BIAS:g}"
            raise refuse(f"logit_bias.{token}", value, remedy, "is not valid")


def _check_depending(request: Any, served: Served) -> None:
    """Fields that mean something on other servers, or with other models."""
    if request.priority and not served.has_priorities:
        remedy = "this server takes requests as they come; it needs --scheduling-policy priority"
        raise refuse("priority", request.priority, remedy)
    if request.kv_transfer_params and not served.has_kv_connector:
        remedy = "this server transfers no K and V; it needs --kv-transfer-config"
        raise refuse("kv_transfer_params", request.kv_transfer_params, remedy)
    # A chat's logprobs are a switch, a completion's a number, of which 0 asks for the token's own.
    scores = getattr(request, "logprobs", None)
    wants_scores = scores is not None and scores is not False
    if getattr(request, "echo", False) and wants_scores and not served.has_prompt_scores:
        remedy = (
            "with logprobs it asks for the prompt's log-probabilities, and this model does not "
            "read its prompt from left to right; leave one of the two out"
        )
        if not hasattr(request, "messages"):
            remedy += ', or ask for an estimate: {"vllm_xargs": {"diffusion_likelihood": "chain"}}'
        raise refuse("echo", True, remedy)
