"""One event of a stream, as OpenAI's clients read it."""

from __future__ import annotations

import json
from typing import Any

DATA = "data: "
DONE = f"{DATA}[DONE]"


def event_of(chunk: dict[str, Any]) -> str:
    """A chunk as an event."""
    return f"{DATA}{json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n"


def chunk_of(event: Any) -> dict[str, Any] | None:
    """The chunk of an event; None of the last one, and of what is no event of this kind."""
    if not isinstance(event, str) or not event.startswith(f"{DATA}{{"):
        return None
    chunk: dict[str, Any] = json.loads(event[len(DATA) :])
    return chunk
