"""What a request hands to the chat template: refused where the template does not read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_diffusion.server.refusal import refuse

PARSER_KWARGS = frozenset(
    "enable_thinking thinking thinking_mode reasoning_effort force_nonempty_content".split()
)
"""What vLLM's reasoning parsers read of ``chat_template_kwargs``, beside the template."""


def check_template(request: Any, handler: Any, *, has_reasoning_parser: bool) -> None:
    """A template that the server does not take, and values that the chat template does not read.

    Raises:
        VLLMValidationError: with the field, its value and the remedy.
    """
    asked = getattr(request, "chat_template", None)
    documents = getattr(request, "documents", None)
    if asked is not None and not handler.trust_request_chat_template:
        remedy = "this server takes no template of requests; it needs --trust-request-chat-template"
        raise refuse("chat_template", asked, remedy)
    given = {
        name: value
        for name, value in (request.chat_template_kwargs or {}).items()
        if value is not None and value is not False
    }
    template = _template_of(request, asked, handler) if given or documents else None
    if template is None:
        return
    remedy = "this model's chat template does not read it; leave it out"
    if documents and "documents" not in template:
        raise refuse("documents", documents, remedy)
    read_by_parser = PARSER_KWARGS if has_reasoning_parser else frozenset()
    for name in sorted(_unread(given, template, handler) - read_by_parser):
        raise refuse(f"chat_template_kwargs.{name}", given[name], remedy)


def _template_of(request: Any, asked: str | None, handler: Any) -> str | None:
    from vllm.renderers.hf import resolve_chat_template

    found: str | None = resolve_chat_template(
        handler.renderer.tokenizer,
        asked or handler.chat_template,
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
    return set(given) - set(read)
