"""Write the tables of request fields into docs/api.md, from ``vllm_diffusion/server/fields``.

    python -m scripts.field_tables          # or `make docs`

Needs no vLLM. A unit test fails when the file is out of date.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.serving.markdown import replace_section
from vllm_diffusion.server.fields import (
    CHAT,
    COMPLETION,
    MESSAGES,
    MESSAGES_OTHERS,
    OTHERS,
    RESPONSES,
    RESPONSES_OTHERS,
    SHARED,
    Field,
)

API = Path(__file__).resolve().parents[1] / "docs" / "api.md"
SECTIONS: dict[str, Mapping[str, Field]] = {
    "fields of both": SHARED,
    "fields of chats": CHAT,
    "fields of completions": COMPLETION,
    "other fields": OTHERS,
    "fields of responses": RESPONSES | RESPONSES_OTHERS,
    "fields of messages": MESSAGES | MESSAGES_OTHERS,
}
WORDS = {
    "honoured": "honoured",
    "depends": "honoured, or refused",
    "refused": "refused",
    "meaningless": "means nothing",
}


def table(records: Mapping[str, Field]) -> str:
    """One row a field, those that are alike in one."""
    alike: dict[tuple[str, str], list[str]] = {}
    for name, record in records.items():
        alike.setdefault((_what(record), record.reason), []).append(f"`{name}`")
    rows = [
        f"| {', '.join(names)} | {what} | {reason} |" for (what, reason), names in alike.items()
    ]
    return "\n".join(["| field | what happens | how, or why |", "|---|---|---|", *rows])


def _what(record: Field) -> str:
    word = WORDS[record.status]
    if record.neutral_values:
        word += ", but for " + ", ".join(
            f"`{json.dumps(value)}`" for value in record.neutral_values
        )
    return word


def write(path: Path = API) -> None:
    """Replace the sections; other text of the file stays."""
    for name, records in SECTIONS.items():
        replace_section(path, name, table(records))


if __name__ == "__main__":
    write()
