"""A client's grammar, in whichever of three syntaxes, as Lark."""

from __future__ import annotations

from vllm_diffusion.structured.constraint import RefusedError


def lark_of(text: str) -> str:
    """A client's grammar in Lark's syntax, or in llama.cpp's or vLLM's EBNF."""
    from llguidance.gbnf_to_lark import any_to_lark

    if not text.strip():
        raise RefusedError("the grammar is empty")
    try:
        lark: str = any_to_lark(text)
    except Exception as error:  # the library names no class of its own for all that it raises
        raise RefusedError(f"the grammar cannot be read: {error!s:.200}") from error
    return lark
