"""Bounds on what one constraint may cost, checked before it is spent.

Each is an option of the server, ``--additional-config '{"structured_limits": {...}}'``. Defaults
and what they cost: ``docs/limits.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

OPTION = "structured_limits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one constraint may cost."""

    spec_bytes: int = 1 << 18
    """Bytes of a schema, an expression, a grammar or a list of choices."""
    nesting: int = 64
    """Levels of a schema, and of an expression's groups."""
    schema_nodes: int = 20_000
    """Schemas within a schema, references followed."""
    expression_nodes: int = 1 << 15
    """States of an expression's automaton before it is made deterministic."""
    states: int = 2048
    """States of the automaton over bytes; beyond it the grammar's matcher follows the text."""
    cells: int = 1 << 26
    """States by tokens of the automaton over tokens; beyond it the one over bytes does."""
    edges: int = 1 << 12
    """Edges of the automaton over tokens, all read once a position of a block."""
    grammar_symbols: int = 200_000
    """Symbols of a context-free grammar, and items that a position in it may have."""
    lexer_states: int = 50_000
    """States that a grammar's expressions may grow to while a text is followed."""
    end_tokens: int = 4096
    """Tokens of the end that is looked for before a request runs."""
    seconds: float = 3.0
    """Of compilation; then its process is ended."""
    memory_bytes: int = 3 << 30
    """Of the compiling process."""
    check_bytes: int = 1 << 20
    """Of a finished text that is checked."""
    check_seconds: float = 1.0
    """Of that check, the wait for others included."""
    cache_bytes: int = 128 << 20
    """Of compiled constraints that are kept by a front end, and by a worker."""


def read_limits(options: Mapping[str, Any] | None) -> Limits:
    """The limits that a server's ``additional_config`` asks for.

    Raises:
        ValueError: an option that is unknown, or no positive number.
    """
    given = (options or {}).get(OPTION, {})
    if not isinstance(given, Mapping):
        raise ValueError(f"{OPTION} must be an object of limits, not {given!r:.200}")
    known = {field.name for field in fields(Limits)}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{OPTION}.{name} is not known; known are {', '.join(sorted(known))}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ValueError(f"{OPTION}.{name}={value!r:.200} must be a positive number")
    return Limits(**given)


def raise_by(name: str) -> str:
    """What a refusal says about its bound."""
    return f'the server raises it with --additional-config \'{{"{OPTION}": {{"{name}": ...}}}}\''
