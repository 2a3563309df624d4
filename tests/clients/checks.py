"""What the scripts share: the questions with their answers, and the telling of results.

It is run by the interpreters of other environments, so it needs the standard library alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version

MODEL = "tiny-diffusion"
ASKED = "Write a function lemon that checks cup, lake, star."
CODE = """def lemon(cup, lake, star):
    if cup is None:
        raise ValueError("cup")
    if lake is None:
        raise ValueError("lake")
    if star is None:
        raise ValueError("star")
"""
FIELDS = (
    "Text: pet is bear, name is eva, city is tokyo, color is red, day is friday.\n"
    "Return JSON with the fields pet, day."
)
OBJECT = {"pet": "bear", "day": "friday"}
SCHEMA = {
    "type": "object",
    "properties": {"pet": {"type": "string"}, "day": {"type": "string"}},
    "required": ["pet", "day"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "pet", "strict": True, "schema": SCHEMA}}


def base_url() -> str:
    """Of the server, without ``/v1``; the runner's only argument."""
    return sys.argv[1]


def is_code(text: str | None) -> bool:
    return (text or "").strip() == CODE.strip()


def told(package: str, checks: dict[str, Callable[[], bool]]) -> None:
    """Run every check and print a line of JSON for each; a wrong answer is no error."""
    for feature, check in checks.items():
        try:
            result = "ok" if check() is True else "wrong answer"
        except Exception as error:
            result = f"{type(error).__name__}: {error}"[:160]
        said = {"client": package, "version": version(package), "feature": feature}
        print(json.dumps(said | {"result": result}), flush=True)
