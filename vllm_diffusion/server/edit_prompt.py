"""How a model is asked for an edit: a message with an instruction and the text to change.

A checkpoint says its form with ``edit_prompt`` in ``config.json``, in which ``{instruction}`` and
``{text}`` stand. One that follows instructions and says nothing is asked in plain words. The answer
is the whole text after the change, so the text is the draft of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vllm_diffusion.server.edit_tags import (
    FILE,
    HISTORY,
    ORIGINAL,
    REGION,
    SNIPPET,
    UPDATE,
    Passages,
)
from vllm_diffusion.server.refusal import refuse

NAME = "edit_prompt"
PLACES = ("{instruction}", "{text}")
NO_CHANGE = "None"
"""What a next edit says where there is none."""
FENCE = "```"


@dataclass(frozen=True, slots=True)
class Form:
    """How a model is asked."""

    template: str

    def message(self, instruction: str, text: str) -> str:
        """What the user says; not by ``str.format``, since both may have braces."""
        head, _, rest = self.template.partition(PLACES[0])
        middle, _, tail = rest.partition(PLACES[1])
        return f"{head}{instruction}{middle}{text}{tail}"


PLAIN = Form(
    "{instruction}\n\n"
    "Change the text below in that way. Answer with the whole text after the change and with "
    "nothing else: no explanation, no fences, and every line that stays as it is letter for "
    "letter.\n\n{text}"
)
NEXT = "A programmer is at work. Make the change that most likely comes next."
MERGE = (
    "Put this change into the text. A comment like `... existing code ...` stands for lines that "
    "stay as they are."
)


def form_of(hf_config: Any) -> Form:
    """The form of a checkpoint.

    Raises:
        ValueError: what the checkpoint says is not usable.
    """
    template = getattr(hf_config, NAME, None)
    if template is None:
        return PLAIN
    places = [str(template).find(place) for place in PLACES]
    if not isinstance(template, str) or not -1 < places[0] < places[1]:
        raise ValueError(
            f"config.json: {NAME}={template!r} must be a text with {{instruction}} and, behind it, "
            "{text}"
        )
    return Form(template)


def next_edit(passages: Passages) -> tuple[str, str]:
    """Instruction and text of a next edit.

    Raises:
        VLLMValidationError: there is no region, or none with a text.
    """
    region = passages.one(REGION)
    if not region:
        why = "no text stands between them; it is what is edited"
        raise refuse("messages", f"<|{REGION}|>", why, "is not valid")
    parts = [
        ("Seen shortly before:", "\n\n".join(passages.found.get(SNIPPET, []))),
        ("The file:", passages.one(FILE)),
        ("Changes so far, the latest last:", passages.one(HISTORY)),
    ]
    told = [f"{title}\n{text}" for title, text in parts if text and text.strip()]
    # The user's own words are the whole instruction where nothing else is told.
    return "\n\n".join([passages.free or NEXT, *told]), region


def applied(passages: Passages) -> tuple[str, str]:
    """Instruction and text of a change that is to be put into a file.

    Raises:
        VLLMValidationError: one of the two is not there.
    """
    text, change = passages.one(ORIGINAL), passages.one(UPDATE)
    for name, found in ((ORIGINAL, text), (UPDATE, change)):
        if not found:
            raise refuse("messages", f"<|{name}|>", "no text stands there", "is not valid")
    assert text and change
    return f"{passages.free or MERGE}\n\n{change}", text


def unfenced(answer: str) -> str:
    """An answer without the fence that many models put around code, unasked."""
    first, _, rest = answer.partition("\n")
    if not first.startswith(FENCE) or FENCE in first[len(FENCE) :]:
        return answer
    body = rest.rstrip()
    return body.removesuffix(FENCE).removesuffix("\n") if body.endswith(FENCE) else rest


def told(answer: str, region: str, *, is_cut: bool) -> str:
    """A next edit as clients read it: fenced, ``None`` where nothing changes.

    An answer that was cut off has no fence at its end, by which clients know it.
    """
    if is_cut:
        return f"{FENCE}\n{answer}"
    return NO_CHANGE if answer == region else f"{FENCE}\n{answer}\n{FENCE}"
