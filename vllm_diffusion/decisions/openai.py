"""OpenAI's shape: ``input``, a list of ``questions`` with ``instructions``, a list of answers."""

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
from vllm_diffusion.decisions.fields import OURS, check_keys, shared, some, string, within
from vllm_diffusion.request.field_errors import InvalidFieldError

FIELDS = ("model", "input", "questions", "safety_identifier", "prompt_cache_key", *OURS)
TYPES = {"predicate": (), "choice": ("choices",), "score": ("levels",)}


def read(body: Any) -> Decision:
    """Read a body.

    Raises:
        InvalidFieldError: with the first field that is not valid.
    """
    given = check_keys(body, "", FIELDS)
    said = shared(given)
    for name in ("safety_identifier", "prompt_cache_key"):
        value = given.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidFieldError(name, value, "it must be a text")
    # A key that parts the cache is what vLLM calls a salt.
    said["cache_salt"] = said["cache_salt"] or given.get("prompt_cache_key")
    questions = some(given["questions"], "questions", list, 1, MAX_QUESTIONS, "questions")
    return Decision(
        shape="openai",
        state=_input(given),
        state_field="input",
        questions=tuple(_question(i, each) for i, each in enumerate(questions)),
        **said,
    )


def _input(given: Any) -> str:
    field, value = within(given, "", "input")
    if isinstance(value, list):
        value = "\n\n".join(_message(f"{field}[{i}]", each) for i, each in enumerate(value))
    if not isinstance(value, str) or not value.strip():
        raise InvalidFieldError(field, value, "it must be a text that is not blank, or messages")
    return value


def _message(path: str, body: Any) -> str:
    given = check_keys(body, path, ("role", "content", "type"))
    if given.get("type") not in (None, "message"):
        raise InvalidFieldError(f"{path}.type", given["type"], "only messages are read")
    if given.get("role") != "user":
        remedy = "messages of the user alone are read; put the others into their text"
        raise InvalidFieldError(f"{path}.role", given.get("role"), remedy)
    field, content = within(given, path, "content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidFieldError(field, content, "it must be a text or a list of parts")
    return "\n".join(_part(f"{field}[{i}]", part) for i, part in enumerate(content))


def _part(path: str, body: Any) -> str:
    if not isinstance(body, dict) or body.get("type") != "input_text":
        kind = body.get("type") if isinstance(body, dict) else body
        raise InvalidFieldError(f"{path}.type", kind, "parts of the type input_text alone are read")
    return string(check_keys(body, path, ("type", "text")), path, "text")


def _question(number: int, body: Any) -> Question:
    path = f"questions[{number}]"
    kind = body.get("type") if isinstance(body, dict) else None
    if isinstance(body, dict) and kind not in TYPES:
        raise InvalidFieldError(f"{path}.type", kind, f"it must be one of {', '.join(TYPES)}")
    given = check_keys(body, path, ("type", "instructions", "name", *TYPES.get(str(kind), ())))
    name = given.get("name")
    if name is not None and not isinstance(name, str):
        raise InvalidFieldError(f"{path}.name", name, "it must be a text")
    is_predicate = kind == "predicate"
    return Question(
        field=path,
        name=name,
        kind="noul" if is_predicate else kind,  # type: ignore[arg-type]
        type=str(kind),
        text=string(given, path, "instructions"),
        options=_sides() if is_predicate else _options(given, path, kind == "choice"),
    )


def _sides() -> tuple[Option, ...]:
    return (Option(name="yes", value=True), Option(name="no", value=False))


def _options(given: Any, path: str, is_choice: bool) -> tuple[Option, ...]:
    name, most = ("choices", MAX_OPTIONS) if is_choice else ("levels", MAX_LEVELS)
    field, bodies = within(given, path, name)
    bodies = some(bodies, field, list, 2, most, "options" if is_choice else "levels")
    options = [
        _option(f"{field}[{i}]", each, "value" if is_choice else "label")
        for i, each in enumerate(bodies)
    ]
    if is_choice and len({(type(o.value), o.value) for o in options}) != len(options):
        raise InvalidFieldError(field, bodies, "two options have the same value")
    return tuple(options)


def _option(path: str, body: Any, key: str) -> Option:
    given = check_keys(body, path, (key, "description"))
    value = given.get(key)
    if not (isinstance(value, str) and value.strip()) and not (
        key == "value" and isinstance(value, bool)
    ):
        raise InvalidFieldError(f"{path}.{key}", value, "it must be a text that is not blank")
    text = given.get("description") or ""
    if not isinstance(text, str):
        raise InvalidFieldError(f"{path}.description", text, "it must be a text")
    name = value if isinstance(value, str) else str(value).lower()
    return Option(name=name, value=value, description=text)


def answers(found: list[Answer]) -> list[dict[str, Any]]:
    """In the order of the questions."""
    return [_answer(each) for each in found]


def _answer(answer: Answer) -> dict[str, Any]:
    question, shares = answer.question, answer.probabilities
    said: dict[str, Any] = {"type": question.type, "name": question.name}
    if question.kind == "noul":
        return said | {"probability": shares[0]}
    pairs = list(zip(question.options, shares, strict=True))
    if question.kind == "choice":
        return said | {
            "choice": question.options[answer.top].value,
            "probabilities": [{"value": o.value, "probability": p} for o, p in pairs],
            "confidence": formulas.choice_confidence(shares),
        }
    return said | {
        "score": formulas.expected(shares),
        "probabilities": [
            {"value": i, "label": o.value, "probability": p} for i, (o, p) in enumerate(pairs)
        ],
        "confidence": formulas.score_confidence(shares),
    }
