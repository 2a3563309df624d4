"""What a request asks of the words of its text: keywords, texts to keep out, a length.

These fields are a request's alone; a server has no defaults for them. Each is checked here, and
together they are followed as a grammar is (``structured.lexical_dfa``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vllm_diffusion.request.field_errors import PREFIX, InvalidFieldError
from vllm_diffusion.request.quote import quoted

MAX_KEYWORDS = 8
"""Which of them have been found is part of a text's state: 256 of each with 8."""
MAX_WITHOUT = 64
MAX_BYTES = 1 << 13
"""Of all texts: each is a state or two of the automaton that finds them."""
MAX_STATES = 1 << 16
"""Most bytes of all texts, doubled for each keyword."""
MAX_CHARS = 1 << 16
"""Characters that may be asked for, and that a limit may be."""


@dataclass(frozen=True, slots=True)
class LexicalConstraints:
    """What a text must and must not hold, and how long it is."""

    keywords: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    min_chars: int = 0
    max_chars: int | None = None


def _texts(most: int) -> Callable[[str, object], tuple[str, ...]]:
    def parse(field: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            raise InvalidFieldError(field, value, "it must be a list of texts")
        if not all(value):
            raise InvalidFieldError(field, value, "a text must have a character")
        if any(0xD800 <= ord(char) < 0xE000 for one in value for char in one):
            raise InvalidFieldError(field, value, "half of a surrogate pair is no character")
        if len(value) > most:
            raise InvalidFieldError(field, value, f"it holds {len(value)} texts; at most {most}")
        return tuple(dict.fromkeys(value))

    return parse


def _chars(lowest: int) -> Callable[[str, object], int]:
    def parse(field: str, value: object) -> int:
        is_int = isinstance(value, int) and not isinstance(value, bool)
        if not is_int or not lowest <= value <= MAX_CHARS:  # type: ignore[operator]
            raise InvalidFieldError(
                field, value, f"it must be an integer from {lowest} to {MAX_CHARS}"
            )
        return value  # type: ignore[return-value]

    return parse


LEXICAL_PARSERS: dict[str, Callable[[str, object], Any]] = {
    "keywords": _texts(MAX_KEYWORDS),
    "without": _texts(MAX_WITHOUT),
    "min_chars": _chars(0),
    "max_chars": _chars(1),
}
"""Every field with what reads it."""


def read_lexical(extra_args: Mapping[str, Any] | None) -> LexicalConstraints | None:
    """What a request asks of its words; None where it asks for nothing.

    Raises:
        InvalidFieldError: a value of a wrong type, or two that contradict each other.
    """
    given = extra_args or {}
    said = {
        name: parse(PREFIX + name, given[PREFIX + name])
        for name, parse in LEXICAL_PARSERS.items()
        if PREFIX + name in given
    }
    lexical = LexicalConstraints(**said)
    if lexical == LexicalConstraints():
        return None
    _check(lexical)
    return lexical


def _check(lexical: LexicalConstraints) -> None:
    longest = lexical.max_chars
    if longest is not None and lexical.min_chars > longest:
        raise InvalidFieldError(
            f"{PREFIX}min_chars", lexical.min_chars, f"{PREFIX}max_chars is {longest}"
        )
    for keyword in lexical.keywords:
        if longest is not None and len(keyword) > longest:
            remedy = (
                f"{quoted(keyword)} has more than the {longest} characters of {PREFIX}max_chars"
            )
            raise InvalidFieldError(f"{PREFIX}keywords", list(lexical.keywords), remedy)
        for text in lexical.without:
            if text in keyword:
                raise InvalidFieldError(
                    f"{PREFIX}keywords",
                    list(lexical.keywords),
                    f"{quoted(keyword)} holds {quoted(text)}, which {PREFIX}without keeps out",
                )
    size = sum(len(text.encode()) for text in (*lexical.keywords, *lexical.without))
    most = min(MAX_STATES >> len(lexical.keywords), MAX_BYTES)
    if size > most:
        name = "keywords" if lexical.keywords else "without"
        raise InvalidFieldError(
            PREFIX + name,
            list(lexical.keywords or lexical.without),
            f"with {len(lexical.keywords)} keywords all texts together may have {most} bytes, "
            f"and these have {size}; say fewer or shorter ones",
        )
