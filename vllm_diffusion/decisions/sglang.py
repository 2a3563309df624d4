"""SGLang's shape: ``input``, a list of questions with ``id`` and ``question``, answers by id."""

from __future__ import annotations

from typing import Any

from vllm_diffusion.decisions import formulas
from vllm_diffusion.decisions.asked import (
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
    string,
    text_of,
    within,
)
from vllm_diffusion.request.field_errors import InvalidFieldError

FIELDS = ("model", "input", "questions", "temperature", "prompt_format_version", *OURS)
TYPES = {"yes_no": ("yes", "no"), "choice": ("options",), "score": ("levels",)}
VERSION = 1


def read(body: Any) -> Decision:
    """Read a body.

    Raises:
        InvalidFieldError: with the first field that is not valid.
    """
    given = check_keys(body, "", FIELDS)
    version = given.get("prompt_format_version")
    if version not in (None, VERSION) or version is True:
        raise InvalidFieldError("prompt_format_version", version, f"it must be {VERSION}")
    temperature = given.get("temperature")
    temperature = 1.0 if temperature is None else temperature
    if not isinstance(temperature, int | float) or isinstance(temperature, bool):
        raise InvalidFieldError("temperature", temperature, "it must be a number")
    if not 0 < temperature <= 100:
        raise InvalidFieldError("temperature", temperature, "it must be above 0, and at most 100")
    bodies = some(given["questions"], "questions", list, 1, MAX_QUESTIONS, "questions")
    questions = tuple(_question(i, each) for i, each in enumerate(bodies))
    names = [question.name for question in questions]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InvalidFieldError(f"questions[{i}].id", name, "two questions have this id")
    return Decision(
        shape="sglang",
        state=state_of(given, "input"),
        state_field="input",
        questions=questions,
        temperature=float(temperature),
        **shared(given),
    )


def _question(number: int, body: Any) -> Question:
    path = f"questions[{number}]"
    kind = body.get("type") if isinstance(body, dict) else None
    if isinstance(body, dict) and kind not in TYPES:
        raise InvalidFieldError(f"{path}.type", kind, f"it must be one of {', '.join(TYPES)}")
    given = check_keys(body, path, ("type", "id", "question", *TYPES.get(str(kind), ())))
    options = {"yes_no": _sides, "choice": _choices, "score": _levels}[str(kind)]
    return Question(
        field=path,
        name=string(given, path, "id"),
        kind="noul" if kind == "yes_no" else kind,  # type: ignore[arg-type]
        type=str(kind),
        text=said_text(given.get("question"), f"{path}.question"),
        options=options(given, path),
    )


def _sides(given: Any, path: str) -> tuple[Option, ...]:
    return tuple(
        Option(name=side, value=side, description=said_text(given.get(side), f"{path}.{side}"))
        for side in ("yes", "no")
    )


def _choices(given: Any, path: str) -> tuple[Option, ...]:
    field, bodies = within(given, path, "options")
    options: list[Option] = []
    for i, body in enumerate(some(bodies, field, list, 2, MAX_OPTIONS, "options")):
        place = f"{field}[{i}]"
        each = check_keys(body, place, ("name", "description"))
        name = string(each, place, "name")
        if any(name == option.name for option in options):
            raise InvalidFieldError(f"{place}.name", name, "two options have this name")
        text = said_text(each.get("description"), f"{place}.description")
        options.append(Option(name=name, value=name, description=text))
    return tuple(options)


def _levels(given: Any, path: str) -> tuple[Option, ...]:
    field, bodies = within(given, path, "levels")
    return tuple(
        Option(name=text_of(level, f"{field}[{i}]"), value=level)
        for i, level in enumerate(some(bodies, field, list, 2, MAX_LEVELS, "levels"))
    )


def answers(found: list[Answer]) -> dict[str, dict[str, Any]]:
    """By id."""
    return {str(each.question.name): _answer(each) for each in found}


def _answer(answer: Answer) -> dict[str, Any]:
    question, shares = answer.question, answer.probabilities
    is_score = question.kind == "score"
    names = [str(i) if is_score else o.name for i, o in enumerate(question.options)]
    said: dict[str, Any] = {
        "type": question.type,
        "probabilities": dict(zip(names, shares, strict=True)),
        "label_mass": answer.label_mass,
    }
    if is_score:
        return said | {"score": formulas.expected(shares)}
    if question.kind == "choice":
        return said | {"choice": names[answer.top]}
    return said
