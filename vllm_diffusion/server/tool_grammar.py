"""A forced call's arguments are held to the function's parameters, and to an object at the least.

vLLM makes the grammar of a call when it adjusts a request to its parser. To a function that does
not say ``strict: true`` it allows any JSON, a string or ``null`` too, which no client takes for
arguments. Here the parser sees every function of a forced call as strict, with parameters that are
an object's; the prompt shows what the client sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vllm_diffusion.request.quote import quoted
from vllm_diffusion.server.refusal import RefusedError

if TYPE_CHECKING:
    from vllm.parser.abstract_parser import Parser


def is_forced(request: Any) -> bool:
    """Must a call come, of a chat's or a response's request."""
    return bool(request.tools) and request.tool_choice not in (None, "none", "auto")


def completed(parameters: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """A schema of arguments: that of the function, which describes an object.

    Raises:
        VLLMValidationError: it describes something else.
    """
    if not parameters:
        return {"type": "object"}
    kind = parameters.get("type", "object")
    if kind == "object" or (isinstance(kind, list) and "object" in kind):
        return parameters | {"type": "object"}
    raise RefusedError(
        f"tools: the parameters of {quoted(name)} say type={quoted(kind)}, and the arguments of a "
        'call are an object; say "type": "object"',
        parameter="tools",
    )


def _for_grammar(tool: Any, *, forced: bool) -> Any:
    """The tool as the grammar of calls is to be made of it."""
    # A chat's tool holds its function, a response's is one; other kinds have no parameters.
    function = getattr(tool, "function", tool)
    if not hasattr(function, "parameters") or not (forced or function.strict):
        return tool
    changed = function.model_copy(
        update={"strict": True, "parameters": completed(function.parameters, function.name)}
    )
    return changed if function is tool else tool.model_copy(update={"function": changed})


def held(parser_cls: type[Parser]) -> type[Parser]:
    """The same parser, whose forced calls have objects for arguments, and no other text."""

    class Held(parser_cls):  # type: ignore[misc]
        def adjust_request(self, request: Any) -> Any:
            if not request.tools or request.tool_choice in (None, "none"):
                return super().adjust_request(request)
            shown, forced = request.tools, is_forced(request)
            request.tools = [_for_grammar(tool, forced=forced) for tool in shown]
            try:
                adjusted = super().adjust_request(request)
            finally:
                request.tools = shown
            adjusted.tools = shown
            return adjusted

        def parse(
            self,
            model_output: str,
            request: Any,
            enable_auto_tools: bool = False,
            model_output_token_ids: Sequence[int] = (),
        ) -> tuple[str | None, str | None, Any]:
            reasoning, content, calls = super().parse(
                model_output, request, enable_auto_tools, model_output_token_ids
            )
            # The rest is a call that a stop string or ``max_tokens`` has cut off.
            if is_forced(request) and not calls:
                content = None
            return reasoning, content, calls

    Held.__name__ = Held.__qualname__ = parser_cls.__name__
    return Held


def hold_calls(state: Any, places: Sequence[tuple[str, str]]) -> None:
    """Have every part of a server that makes grammars of tools, or reads calls, do so."""
    for name, attribute in (*places, ("online_renderer", "parser")):
        owner = getattr(state, name, None)
        if owner is not None and (parser_cls := getattr(owner, attribute, None)) is not None:
            setattr(owner, attribute, held(parser_cls))
