"""What becomes of every field of a request, one record each.

Data alone: ``admission`` refuses by it, ``scripts/field_tables.py`` writes ``docs/api.md`` from it,
and tests hold it against vLLM's request models and a real server. A ``record`` says what becomes of
a field. ``SHARED`` (``shared``) are fields of chats and completions, ``CHAT`` and ``COMPLETION``
(``openai``) those of one; ``OTHERS`` (``others``) are fields that vLLM's models do not have, and
would drop. ``RESPONSES`` and ``MESSAGES`` (``responses``, ``messages``) are whole routes, with
others of their own.
"""

from vllm_diffusion.server.fields.messages import MESSAGES, MESSAGES_OTHERS
from vllm_diffusion.server.fields.openai import CHAT, COMPLETION
from vllm_diffusion.server.fields.others import NO_DRAFTS, OTHERS
from vllm_diffusion.server.fields.record import Field
from vllm_diffusion.server.fields.responses import RESPONSES, RESPONSES_OTHERS
from vllm_diffusion.server.fields.shared import SHARED

RECORDS: dict[str, dict[str, Field]] = {
    "chat": CHAT | SHARED,
    "completion": COMPLETION | SHARED,
    "responses": RESPONSES,
    "messages": MESSAGES,
}
"""By route."""
OTHERS_OF: dict[str, dict[str, Field]] = {
    "chat": OTHERS,
    "completion": OTHERS | NO_DRAFTS,
    "responses": OTHERS | NO_DRAFTS | RESPONSES_OTHERS,
    "messages": OTHERS | NO_DRAFTS | MESSAGES_OTHERS,
}
"""What clients of a route send beside its fields."""

__all__ = [
    "CHAT",
    "COMPLETION",
    "MESSAGES",
    "MESSAGES_OTHERS",
    "OTHERS",
    "OTHERS_OF",
    "RECORDS",
    "RESPONSES",
    "RESPONSES_OTHERS",
    "SHARED",
    "Field",
]
