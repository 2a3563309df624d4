"""Mercury's requests for edits: a message whose passages stand between tags.

    <|code_to_edit|>\\nx = 1\\n<|/code_to_edit|>

Tags may come in any order and one within another; what stands outside of them is free text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from vllm_diffusion.server.refusal import refuse

REGION, HISTORY = "code_to_edit", "edit_diff_history"
FILE, SNIPPET = "current_file_content", "recently_viewed_code_snippet"
ORIGINAL, UPDATE = "original_code", "update_snippet"
EDIT = (REGION, HISTORY, FILE, SNIPPET, f"{SNIPPET}s")
"""Of ``/v1/edit/completions``."""
APPLY = (ORIGINAL, UPDATE)
"""Of ``/v1/apply/completions``."""
CURSOR = "<|cursor|>"
ENDINGS = ("<|!@#IS_NEXT_EDIT!@#|>", "<|!@#IS_APPLY!@#|>")
"""What Continue says at a message's end, to find its own requests again."""


@dataclass
class Passages:
    """What a message says."""

    found: dict[str, list[str]] = field(default_factory=dict)
    """By tag, without the tags that stand within."""
    free: str = ""
    """Outside of all tags."""

    def one(self, name: str) -> str | None:
        """The text of a tag that stands once, None where it does not stand there."""
        texts = self.found.get(name, [])
        if len(texts) > 1:
            raise refuse("messages", f"<|{name}|>", f"it stands there {len(texts)} times; once is "
                         "what can be answered", "is not valid")  # fmt: skip
        return texts[0] if texts else None


def content_of(messages: Sequence[Mapping[str, object]]) -> str:
    """The text of the one message that a request has.

    Raises:
        VLLMValidationError: there are others, or it is no text.
    """
    roles = [message.get("role") for message in messages]
    if roles != ["user"]:
        raise refuse(
            "messages", roles, "this route reads one message of the user's", "is not valid"
        )
    content = messages[0].get("content")
    if isinstance(content, (list, tuple)):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        if len(texts) == len(content) and all(isinstance(text, str) for text in texts):
            content = "".join(str(text) for text in texts)
    if not isinstance(content, str):
        raise refuse("messages[0].content", content, "it must be a text", "is not valid")
    return content


def passages_of(content: str, names: Collection[str]) -> Passages:
    """Read a message; one look at each of its characters.

    Raises:
        VLLMValidationError: a tag is not closed, or closed where it is not open.
    """
    for ending in ENDINGS:
        content = content.removesuffix(ending)
    tag = re.compile(r"<\|(/?)(" + "|".join(sorted(names, key=len, reverse=True)) + r")\|>")
    made = Passages()
    opened: list[tuple[str, list[str]]] = []
    free: list[str] = []
    at = 0
    for match in tag.finditer(content):
        _add(content[at : match.start()], opened, free)
        at = match.end()
        name = match.group(2)
        if not match.group(1):
            if any(name == other for other, _ in opened):
                raise _wrong(match.group(), "it is open already; close it first")
            opened.append((name, []))
            continue
        if not opened or opened[-1][0] != name:
            inner = f"<|{opened[-1][0]}|> is; close that first" if opened else "no tag is"
            raise _wrong(match.group(), f"it is not what is open, {inner}")
        made.found.setdefault(name, []).append(_framed("".join(opened.pop()[1])))
    if opened:
        name = opened[-1][0]
        raise _wrong(f"<|{name}|>", f"it is not closed; add <|/{name}|>")
    _add(content[at:], opened, free)
    made.free = "".join(free).strip()
    return made


def _add(text: str, opened: Sequence[tuple[str, list[str]]], free: list[str]) -> None:
    """A passage belongs to every tag that is open, and is free where none is."""
    for _, parts in opened:
        parts.append(text)
    if not opened:
        free.append(text)


def _framed(text: str) -> str:
    """Without the line breaks that only part a passage from its tags, and without the cursor."""
    return text.replace(CURSOR, "").removeprefix("\n").removesuffix("\n")


def _wrong(tag: str, remedy: str) -> Exception:
    return refuse("messages", tag, remedy, "is not valid")
