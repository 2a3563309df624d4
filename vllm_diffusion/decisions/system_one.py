"""System One's shape, which is Inception's: ``questions`` and ``answers`` are objects by id."""

from __future__ import annotations

from typing import Any

from vllm_diffusion.decisions import formulas
from vllm_diffusion.decisions.asked import (
    KINDS,
    MAX_LEVELS,
    MAX_OPTIONS,
    MAX_QUESTIONS,
    Answer,
    Decision,
    Option,
    Question,
)
from vllm_diffusion.decisions.fields import (
    OURS,
    check_keys,
    said_text,
    shared,
    some,
    state_of,
    text_of,
    within,
)
from vllm_diffusion.request.field_errors import InvalidFieldError

FIELDS = ("model", "state", "questions", "instructions", *OURS)


def read(body: Any) -> Decision:
    """Read a body.

    Raises:
        InvalidFieldError: with the first field that is not valid.
    """
    given = check_keys(body, "", FIELDS)
    field, asked = within(given, "", "questions")
    asked = some(asked, field, dict, 1, MAX_QUESTIONS, "questions")
    return Decision(
        shape="system_one",
        state=state_of(given, "state"),
        state_field="state",
        instructions=said_text(given.get("instructions"), "instructions"),
        questions=tuple(_question(name, each) for name, each in asked.items()),
        **shared(given),
    )


def _question(name: str, body: Any) -> Question:
    path = f"questions.{name}"
    given = check_keys(body, path, ("type", "instructions", "criteria"))
    field, kind = within(given, path, "type")
    if kind not in KINDS:
        raise InvalidFieldError(field, kind, f"it must be one of {', '.join(KINDS)}")
    options = {"noul": _sides, "choice": _choices, "score": _levels}[kind]
    return Question(
        field=path,
        name=name,
        kind=kind,
        type=kind,
        text=said_text(given.get("instructions"), f"{path}.instructions"),
        options=options(given.get("criteria"), f"{path}.criteria"),
    )


def _sides(criteria: Any, field: str) -> tuple[Option, ...]:
    given = check_keys({} if criteria is None else criteria, field, ("true", "false"))
    return tuple(
        Option(name=name, value=value, description=said_text(given.get(side), f"{field}.{side}"))
        for name, side, value in (("yes", "true", True), ("no", "false", False))
    )


def _choices(criteria: Any, field: str) -> tuple[Option, ...]:
    given = some(criteria, field, dict, 1, MAX_OPTIONS, "options")
    for name in given:
        if not name.strip():
            raise InvalidFieldError(field, given, "the name of an option is blank")
    return tuple(
        Option(name=name, value=name, description=said_text(text, f"{field}.{name}"))
        for name, text in given.items()
    )


def _levels(criteria: Any, field: str) -> tuple[Option, ...]:
    given = some(criteria, field, list, 1, MAX_LEVELS, "levels")
    return tuple(
        Option(name=text_of(level, f"{field}[{i}]"), value=level) for i, level in enumerate(given)
    )


def answers(found: list[Answer]) -> dict[str, dict[str, Any]]:
    """By id; a ``noul`` has no confidence."""
    return {str(each.question.name): _answer(each) for each in found}


def _answer(answer: Answer) -> dict[str, Any]:
    question, shares = answer.question, answer.probabilities
    if question.kind == "noul":
        return {"type": "noul", "noul": shares[0]}
    if question.kind == "choice":
        names = [option.name for option in question.options]
        return {
            "type": "choice",
            "choice": names[answer.top],
            "confidence": formulas.choice_confidence(shares),
            "probabilities": dict(zip(names, shares, strict=True)),
        }
    return {
        "type": "score",
        "score": formulas.expected(shares),
        "confidence": formulas.score_confidence(shares),
        "legend": {str(i): option.value for i, option in enumerate(question.options)},
        "probabilities": {str(i): share for i, share in enumerate(shares)},
    }
