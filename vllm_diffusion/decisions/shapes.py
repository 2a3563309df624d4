"""Three shapes under one path, told apart by ``questions``; each is answered in its own."""

from __future__ import annotations

import time
from typing import Any

from vllm_diffusion.decisions import openai, sglang, system_one
from vllm_diffusion.decisions.asked import Decision, Spent
from vllm_diffusion.decisions.prompts import check_fields
from vllm_diffusion.request.field_errors import InvalidFieldError

SHAPES: dict[str, Any] = {"system_one": system_one, "openai": openai, "sglang": sglang}
OBJECTS = {"system_one": "structured_decision", "openai": "decision", "sglang": "decisions"}


def read(body: Any, shape: str | None = None) -> Decision:
    """Read a body of any shape, or of one alone.

    Raises:
        InvalidFieldError: with the first field that is not valid.
    """
    decision: Decision = SHAPES[shape or shape_of(body)].read(body)
    check_fields(decision)
    return decision


def shape_of(body: Any) -> str:
    """An object is System One's; a list whose items have ``question`` or ``id`` is SGLang's."""
    asked = body.get("questions") if isinstance(body, dict) else None
    if isinstance(asked, dict):
        return "system_one"
    if not isinstance(asked, list):
        remedy = "it must be an object of questions by id, or a list of them"
        raise InvalidFieldError("questions", asked, remedy)
    is_sglang = any(isinstance(q, dict) and ("question" in q or "id" in q) for q in asked)
    return "sglang" if is_sglang else "openai"


def answer(decision: Decision, spent: Spent, name: str, model: str) -> dict[str, Any]:
    """The body of the response."""
    said: dict[str, Any] = {
        "id": name,
        "object": OBJECTS[decision.shape],
        "created": int(time.time()),
        "model": model,
        "answers": SHAPES[decision.shape].answers(spent.answers),
        "usage": _usage(decision, spent),
    }
    told = [
        {
            "label_mass": each.label_mass,
            "argmax_is_label": each.argmax_is_label,
            "num_reads": each.num_reads,
            "temperature": each.temperature,
        }
        for each in spent.answers
    ]
    if decision.shape == "openai":
        return said | {"diagnostics": told}
    names = [str(each.question.name) for each in spent.answers]
    return said | {"diagnostics": dict(zip(names, told, strict=True))}


def _usage(decision: Decision, spent: Spent) -> dict[str, Any]:
    if decision.shape == "sglang":
        return {
            "prompt_tokens": spent.num_prompt,
            "completion_tokens": spent.num_reads,
            "total_tokens": spent.num_prompt + spent.num_reads,
            "prompt_tokens_details": {"cached_tokens": spent.num_cached},
        }
    return {
        "input_tokens": spent.num_prompt,
        "input_tokens_details": {"cached_tokens": spent.num_cached, "cache_write_tokens": 0},
        "output_tokens": spent.num_reads,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spent.num_prompt + spent.num_reads,
    }
