"""What clients of Mercury and of other servers say, and what an answer tells them of it.

A request is in Mercury's dialect if it has a field of Mercury's own. Then an output limit above the
context means all of the context, as there, and the answer says so in ``warning``.

Fields that other servers know, and that ask for nothing here, are refused like all that would be
ignored. A server whose clients cannot be changed takes them: with
``--additional-config '{"foreign_fields": "warn"}'`` the answer names them in ``warning``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from vllm_diffusion.request.field_errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Iterable

OPTION = "foreign_fields"
Answer = Literal["refuse", "warn"]
MERCURY = frozenset({"diffusing", "realtime", "reasoning_summary", "reasoning_summary_wait"})
LIMITS = ("max_tokens", "max_completion_tokens")

FOREIGN: dict[str, frozenset[str]] = {
    "OpenRouter": frozenset({"provider", "route", "session_id", "trace"}),
    "Ollama": frozenset({"keep_alive"}),
    "llama.cpp": frozenset(
        {"cache_prompt", "id_slot", "slot_id", "n_keep", "n_discard", "t_max_prompt_ms"}
    ),
}
"""By server: fields of its chats and completions that say how it should go about them.

None changes the text that is wanted, or what comes beside it; such fields stay refused.
"""
_SERVER_OF = {field: server for server, fields in FOREIGN.items() for field in fields}


def answer_of(additional_config: Any) -> Answer:
    """What a server's owner wants of foreign fields.

    Raises:
        InvalidFieldError: something else than there is.
    """
    given = additional_config.get(OPTION) if isinstance(additional_config, dict) else None
    if given not in (None, "refuse", "warn"):
        remedy = "it must be 'refuse' or 'warn'"
        raise InvalidFieldError(f"additional_config.{OPTION}", given, remedy)
    return "warn" if given == "warn" else "refuse"


def is_foreign(field: str) -> bool:
    """Whether another server knows a field that asks for nothing here."""
    return field in _SERVER_OF


def take_foreign(request: Any, answer: Answer) -> list[str]:
    """Take foreign fields out of a request; returns what the answer says of them."""
    extra = getattr(request, "model_extra", None) or {}
    if answer == "refuse":
        return []
    found = [field for field in extra if is_foreign(field) and extra[field] is not None]
    for field in found:
        del extra[field]
    return [_told(found)] if found else []


def _told(fields: Iterable[str]) -> str:
    named = ", ".join(f"{field} ({_SERVER_OF[field]})" for field in fields)
    return f"nothing was done about {named}: another server's, with no meaning here"


def limit(request: Any, longest: int) -> list[str]:
    """Cut what a request in Mercury's dialect may put out to the context; returns what is said."""
    said = getattr(request, "model_extra", None) or {}
    level = getattr(request, "_level", None)
    if level != "instant" and not any(said.get(field) is not None for field in MERCURY):
        return []
    told = []
    for field in LIMITS:
        most = getattr(request, field, None)
        if most is not None and most > longest:
            setattr(request, field, longest)
            told.append(f"{field}={most} is above the context of {longest} tokens, and was cut")
    return told


def remarks(request: Any, answer: Answer, longest: int) -> list[str]:
    """Take from a request what is another server's; returns what its answer says of that."""
    return [*take_foreign(request, answer), *limit(request, longest)]
