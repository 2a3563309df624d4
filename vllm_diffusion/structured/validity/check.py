"""One finished text against one constraint.

Regular expressions are matched by llguidance over bytes: it is linear in the text, where Python's
``re`` may backtrack for ever, and another engine than the automata that texts are made with.
"""

from __future__ import annotations

import json
from typing import Any

from vllm_diffusion.structured.constraint import Constraint
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.validity.json_text import (
    InvalidError,
    NotCheckedError,
    check_value,
    is_cheap_schema,
    num_values,
    read_value,
)
from vllm_diffusion.structured.validity.pattern import follows_grammar, matches
from vllm_diffusion.structured.validity.tags import check_tag, is_cheap_tag

CHEAP_BYTES = 1 << 13
"""Of a constraint that the server checks by itself, and of its text."""
CHEAP_WORK = 600
"""Values of a text times schemas: 5 ms at the most."""


def check(constraint: Constraint, text: str, limits: Limits) -> None:
    """Check one text; may take for ever, so ``service`` runs it in a process.

    Raises:
        InvalidError: the text is none of the constraint's.
        NotCheckedError: this check cannot say.
    """
    kind, spec = constraint.kind, constraint.spec
    if kind == "json":
        check_value(spec, read_value(text))
    elif kind == "json_object":
        if not isinstance(read_value(text), dict):
            raise InvalidError("it is no JSON object")
    elif kind == "choice":
        if text not in json.loads(spec):
            raise InvalidError("it is none of the choices")
    elif kind == "regex":
        if not matches(spec, text, limits, is_search=False):
            raise InvalidError("it does not match the expression")
    elif kind == "grammar":
        if not follows_grammar(spec, text, limits):
            raise InvalidError("it does not follow the grammar")
    elif kind == "lexical":
        _check_words(json.loads(spec), text)
    else:
        check_tag(spec, text, limits)


def is_cheap(constraint: Constraint, text: str) -> bool:
    """Whether the check provably takes a few milliseconds at the most."""
    if len(constraint.spec) > CHEAP_BYTES or len(text) > CHEAP_BYTES:
        return False
    if constraint.kind in ("choice", "json_object", "lexical"):
        return True
    if constraint.kind == "json":
        return is_cheap_schema(constraint.spec, CHEAP_WORK // num_values(text))
    if constraint.kind == "structural_tag":
        return is_cheap_tag(constraint.spec, CHEAP_WORK // num_values(text))
    return False


def _check_words(asked: dict[str, Any], text: str) -> None:
    """As ``lexical`` reads them: each keyword, none of what is kept out, and the length."""
    for keyword in asked["keywords"]:
        if keyword not in text:
            raise InvalidError("a keyword is missing")
    for unwanted in asked["without"]:
        if unwanted in text:
            raise InvalidError("it holds what it must not")
    if not asked["min_chars"] <= len(text) <= (asked["max_chars"] or len(text)):
        raise InvalidError("its length is not what was asked for")


__all__ = ["InvalidError", "NotCheckedError", "check", "is_cheap"]
