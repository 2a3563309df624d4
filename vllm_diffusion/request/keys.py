"""What front end and worker tell each other in ``extra_args``, beside the request's fields."""

from __future__ import annotations

from typing import Any

COMPILED = "_compiled_constraint"
"""What the text is held to, compiled."""
REASONING_ENDED = "_reasoning_ended"
"""What is held to the constraint starts with the output, whatever the prompt says."""


def has_grammar(params: Any) -> bool:
    """Is the text of a request with these sampling parameters held to a constraint?"""
    return bool(params.extra_args) and COMPILED in params.extra_args


def is_walked(params: Any) -> bool:
    """Is the text followed token by token (``structured.frontier``)?"""
    return has_grammar(params) or params.thinking_token_budget is not None
