"""A text has one form: its own, a grammar's or that of a call. What asks for two is refused."""

from __future__ import annotations

from typing import Any

from vllm_diffusion.request.conflicts import conflict
from vllm_diffusion.request.features import Calls
from vllm_diffusion.request.lexical import LEXICAL_PARSERS
from vllm_diffusion.request.params import PREFIX
from vllm_diffusion.server.refusal import refuse, refused_pair

FUNCTIONS = ("function", "custom", "namespace")
"""A response's tools that the client runs."""


def check_forms(request: Any) -> None:
    """Check a chat's or a response's request.

    Raises:
        VLLMValidationError: with the field, its value and the remedy.
    """
    tools, choice = request.tools, request.tool_choice
    if not tools or choice == "none":
        return
    said = request.vllm_xargs or {}
    words = next((PREFIX + name for name in LEXICAL_PARSERS if PREFIX + name in said), None)
    form = None if words else _form_of(request)
    if words is None and form is None:
        return
    calls = Calls(names=_names(tools), choice=_choice(choice), words=words, form=form)
    if refusal := conflict(calls, "words of answer", "form of answer"):
        raise refused_pair(refusal)


def _form_of(request: Any) -> str | None:
    """The field that asks for a form of the text, beside calls."""
    if request.extract_structured_outputs() is None:
        return None
    if request.structured_outputs is not None:
        return "structured_outputs"
    return "response_format" if hasattr(request, "response_format") else "text.format"


def check_tools_of_response(request: Any) -> None:
    """Refuse tools that would run here, and choices that vLLM would not heed.

    Raises:
        VLLMValidationError: with the field, its value and the remedy.
    """
    for number, tool in enumerate(request.tools):
        if tool.type not in FUNCTIONS:
            remedy = "only functions of the client's can be called; leave it out"
            raise refuse(f"tools[{number}].type", tool.type, remedy)
    kind = getattr(request.tool_choice, "type", None)
    if kind is not None and kind not in FUNCTIONS:
        remedy = "name one function, or say auto, required or none and send fewer tools"
        raise refuse("tool_choice", kind, remedy)


def _names(tools: Any) -> list[str]:
    return [getattr(tool, "function", tool).name for tool in tools]


def _choice(choice: Any) -> str | None:
    if choice is None or isinstance(choice, str):
        return choice
    name: str = getattr(choice, "function", choice).name
    return name
