"""A text has one form: its own, a grammar's or that of a call. What asks for two is refused."""

from __future__ import annotations

from typing import Any

from vllm_diffusion.request.params import PREFIX
from vllm_diffusion.request.wording import WORDING_PARSERS
from vllm_diffusion.server.refusal import refuse

FUNCTIONS = ("function", "custom", "namespace")
"""A response's tools that the client runs."""
TWO_FORMS = "they ask for two forms of the text; choose one"

TOGETHER = "does not go together with {}"


def check_forms(request: Any) -> None:
    """Check a chat's or a response's request.

    Raises:
        VLLMValidationError: with the field, its value and the remedy.
    """
    tools, choice = request.tools, request.tool_choice
    if not tools or choice == "none":
        return
    said = [
        PREFIX + name for name in WORDING_PARSERS if PREFIX + name in (request.vllm_xargs or {})
    ]
    if said:
        raise refuse("tools", _names(tools), TWO_FORMS, TOGETHER.format(said[0]))
    form = _form_of(request)
    if form is None:
        return
    if choice in (None, "auto"):
        remedy = (
            "the text would be held to that form, and no tool could be called; leave one of the "
            'two out, or say tool_choice "none"'
        )
        raise refuse("tools", _names(tools), remedy, TOGETHER.format(form))
    raise refuse("tool_choice", _choice(choice), TWO_FORMS, TOGETHER.format(form))


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


def _choice(choice: Any) -> str:
    if isinstance(choice, str):
        return choice
    name: str = getattr(choice, "function", choice).name
    return name
