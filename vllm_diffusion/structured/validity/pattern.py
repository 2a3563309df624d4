"""Expressions and grammars, followed over the bytes of a text by llguidance in linear time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.grammar_matcher import byte_tokenizer, parser_limits
from vllm_diffusion.structured.grammar_text import lark_of
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.regex_ast import anchored, parse
from vllm_diffusion.structured.regex_json import to_rust


def _matcher(grammar: str, limits: Limits) -> Any:
    import llguidance

    matcher = llguidance.LLMatcher(
        byte_tokenizer(), grammar, log_level=0, limits=parser_limits(limits)
    )
    if matcher.is_error():
        raise RefusedError(matcher.get_error()[:200])
    return matcher


@lru_cache(maxsize=32)
def of_expression(pattern: str, limits: Limits, is_search: bool) -> Any:
    """At the start of an expression; to be copied."""
    import llguidance

    node = anchored(parse(pattern, limits.nesting), is_search=is_search)
    return _matcher(llguidance.LLMatcher.grammar_from_regex(to_rust(node)), limits)


@lru_cache(maxsize=32)
def of_grammar(text: str, limits: Limits) -> Any:
    """At the start of a client's grammar; to be copied."""
    return _matcher(lark_of(text), limits)


def _ends(matcher: Any, text: str) -> bool:
    data = text.encode()
    for at, byte in enumerate(data):
        if matcher.is_stopped():
            return False
        if not matcher.validate_tokens([byte]):
            if matcher.is_error():
                raise RefusedError(f"at byte {at}: {matcher.get_error()[:200]}")
            return False
        if not matcher.consume_token(byte):
            raise RefusedError(f"at byte {at}: {matcher.get_error()[:200]}")
    return bool(matcher.is_stopped() or matcher.is_accepting())


def matches(pattern: str, text: str, limits: Limits, *, is_search: bool) -> bool:
    """Whether a text matches an expression, as a whole or anywhere.

    Raises:
        RefusedError: a bound of the library's.
    """
    return _ends(of_expression(pattern, limits, is_search).deep_copy(), text)


def follows_grammar(grammar: str, text: str, limits: Limits) -> bool:
    """Whether a text is one of a client's grammar.

    Raises:
        RefusedError: as above.
    """
    return _ends(of_grammar(grammar, limits).deep_copy(), text)


def ends_within(start: Any, text: str, first: int) -> list[int]:
    """Where a text that begins at a character may end.

    Args:
        start: of an expression or a grammar: see above.
        text: of which a part is read.
        first: its first character.

    Raises:
        RefusedError: a bound of the library's.
    """
    matcher = start.deep_copy()
    found = [first] if matcher.is_accepting() else []
    for at in range(first, len(text)):
        data = list(text[at].encode())
        if matcher.is_stopped() or matcher.validate_tokens(data) < len(data):
            break
        if not matcher.consume_tokens(data):
            raise RefusedError(matcher.get_error()[:200])
        if matcher.is_stopped() or matcher.is_accepting():
            found.append(at + 1)
    return found
