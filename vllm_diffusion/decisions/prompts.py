"""What the model reads of a question, and the labels that it may answer with."""

from __future__ import annotations

import string
from collections.abc import Sequence

from vllm_diffusion.decisions.asked import (
    MAX_CHARACTERS,
    MAX_READS,
    Decision,
    Option,
    Question,
)
from vllm_diffusion.request.field_errors import InvalidFieldError

LETTERS = string.ascii_uppercase


def check_fields(decision: Decision) -> None:
    """Refuse what no question would read, and more work than one request may ask for.

    Raises:
        InvalidFieldError: with the field.
    """
    has_choice = any(question.kind == "choice" for question in decision.questions)
    for field, value, nothing in (
        ("rotations", decision.rotations, 1),
        ("read", decision.reading, "labels"),
    ):
        if value != nothing and not has_choice:
            raise InvalidFieldError(field, value, "it is of choices, and no question is one")
    num_prompts = sum(decision.num_orders(question) for question in decision.questions)
    if num_prompts > MAX_READS:
        remedy = f"{num_prompts} prompts would be read, and {MAX_READS} are the most; ask for fewer"
        raise InvalidFieldError("rotations", decision.rotations, remedy)
    num_characters = sum(
        decision.num_orders(question) * (len(decision.state) + len(text_of(question)))
        for question in decision.questions
    )
    if num_characters > MAX_CHARACTERS:
        raise InvalidFieldError(
            decision.state_field,
            decision.state,
            f"all questions together would have prompts of {num_characters} characters, and "
            f"{MAX_CHARACTERS} are the most; ask fewer questions at a time",
        )


def text_of(question: Question) -> str:
    """All that a question adds to its prompts."""
    return question.text + "".join(o.name + o.description for o in question.options)


def rotated(options: Sequence[Option], number: int, num_orders: int) -> list[int]:
    """The order in which the options are shown the ``number``-th time: turned, evenly."""
    start = number * len(options) // num_orders
    return [*range(start, len(options)), *range(start)]


def labels_of(question: Question, reading: str = "labels") -> list[str]:
    """What stands for each place: letters, or numbers where the letters do not suffice."""
    num = len(question.options)
    if question.kind == "noul":
        return ["yes", "no"]
    if question.kind == "score":
        return [str(i) for i in range(num)]
    if reading == "options":
        return [option.name for option in question.options]
    return list(LETTERS[:num]) if num <= len(LETTERS) else [str(i + 1) for i in range(num)]


def content(decision: Decision, question: Question, order: Sequence[int]) -> str:
    """What the user says: the state first, so that all questions begin alike."""
    shows_names = question.kind == "choice" and decision.reading == "options"
    labels = labels_of(question)
    lines = [question.text] if question.text else []
    for place, i in enumerate(order):
        option = question.options[i]
        if question.kind == "noul":
            lines.append(_line(labels[place], option.description))
        elif shows_names:
            lines.append("- " + _line(option.name, option.description))
        else:
            lines.append(f"{labels[place]}: " + _line(option.name, option.description, " - "))
    lines.append(_ending(question, shows_names))
    return decision.state + "\n\n" + "\n".join(lines)


def _line(name: str, description: str, between: str = ": ") -> str:
    return f"{name}{between}{description}" if description else name


def _ending(question: Question, shows_names: bool) -> str:
    if question.kind == "noul":
        return "Answer with yes or no only."
    if question.kind == "score":
        return "Answer with the number of one level only."
    if shows_names:
        return "Answer with the words of one option only."
    word = "letter" if len(question.options) <= len(LETTERS) else "number"
    return f"Answer with the {word} of one option only."
