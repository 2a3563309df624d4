"""anthropic."""

from __future__ import annotations

from typing import Any

import anthropic
from checks import ASKED, MODEL, base_url, is_code, told

CLIENT = anthropic.Anthropic(base_url=base_url(), api_key="none", max_retries=0)
MESSAGES: Any = CLIENT.messages
ASK: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 256,
    "messages": [{"role": "user", "content": ASKED}],
}


def message() -> bool:
    return is_code(MESSAGES.create(**ASK).content[0].text)


def stream() -> bool:
    with MESSAGES.stream(**ASK) as events:
        return is_code("".join(events.text_stream))


def refused() -> bool:
    try:
        MESSAGES.create(**ASK, extra_body={"diffusing": True})
    except anthropic.BadRequestError as error:
        return "diffusing" in str(error)
    return False


def counted() -> bool:
    counts = MESSAGES.count_tokens(model=MODEL, messages=ASK["messages"])
    return bool(counts.input_tokens > 0)


told(
    "anthropic",
    {
        "messages": message,
        "stream": stream,
        "a field that nobody reads is refused": refused,
        "count_tokens": counted,
    },
)
