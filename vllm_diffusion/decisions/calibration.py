"""Temperatures that the server's owner has fitted on labelled data; clients cannot choose them.

``--additional-config '{"decisions": {"temperatures": {"choice": 1.4, "choice:4": 1.2}}}'``: of a
kind of question, or of a kind with so many options, which wins. They divide the logarithms of the
restricted distribution alone, so that ``label_mass`` stays what the model said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vllm_diffusion.decisions.asked import KINDS, Question
from vllm_diffusion.request.field_errors import InvalidFieldError

KEY = "decisions"
_NAME = re.compile(rf"({'|'.join(KINDS)})(:[1-9]\d*)?")
LEAST, MOST = 0.01, 100.0


def temperatures_of(additional_config: Any) -> dict[str, float]:
    """What the server's options say.

    Raises:
        InvalidFieldError: an unknown key, or a temperature that is none.
    """
    given = additional_config.get(KEY) if isinstance(additional_config, Mapping) else None
    if given is None:
        return {}
    place = f"additional_config.{KEY}"
    if not isinstance(given, dict) or set(given) - {"temperatures"}:
        raise InvalidFieldError(place, given, "it must be an object with temperatures alone")
    place += ".temperatures"
    found = given.get("temperatures") or {}
    if not isinstance(found, dict):
        raise InvalidFieldError(place, found, "it must be an object")
    for name, value in found.items():
        if not _NAME.fullmatch(name):
            remedy = f"it must be one of {', '.join(KINDS)}, or one with a number, as choice:4"
            raise InvalidFieldError(place, name, remedy)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not LEAST <= value <= MOST:
            remedy = f"it must be a number from {LEAST} to {MOST:g}"
            raise InvalidFieldError(f"{place}.{name}", value, remedy)
    return {name: float(value) for name, value in found.items()}


def temperature_of(temperatures: Mapping[str, float], question: Question) -> float:
    """Of one question; 1 where nothing was fitted."""
    kind = question.kind
    of_kind = temperatures.get(kind, 1.0)
    return temperatures.get(f"{kind}:{len(question.options)}", of_kind)
