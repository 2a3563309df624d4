"""A case: what is tried, and how what is said of it is written down."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "unit" / "golden"
REFUSING = ("InvalidFieldError", "RefusedError", "VLLMValidationError", "BodyError", "ValueError",
            "_invalid", "refuse", "refused", "refused_field", "refused_pair")  # fmt: skip
"""What is raised at a user, by name: classes, and functions that make one."""
# Around ours pydantic puts its version's words, and what it was given.
_OURS_IN_PYDANTIC = re.compile(r"\A1 validation error for .*?Value error, (.*) \[type=.*\Z", re.S)


@dataclass(frozen=True)
class Case:
    """One refusal: a name for people, and what makes it."""

    name: str
    call: Callable[[], Any]


@dataclass
class Recorder:
    """Runs cases, and remembers which lines of the package have raised."""

    raised: set[tuple[str, int]] = field(default_factory=set)
    hidden: list[tuple[str, str]] = field(default_factory=list)
    """Parts of a text that differ from run to run, such as a folder's name, and their stand-ins."""

    def said(self, case: Case) -> str:
        """The error's class, the field it names and its text; raises where nothing is refused."""
        try:
            case.call()
        except Exception as error:  # of vLLM's and ours, which share no class
            self._remember(error)
            field_name = getattr(error, "parameter", None) or getattr(error, "field", None)
            where = f"[{field_name}]" if isinstance(field_name, str) else ""
            text = _OURS_IN_PYDANTIC.sub(r"\1", str(error))
            for part, stand_in in self.hidden:
                text = text.replace(part, stand_in)
            body = "\n    ".join(text.splitlines())
            return f"{type(error).__name__}{where}\n    {body}"
        raise AssertionError(f"nothing is refused: {case.name}")

    def _remember(self, error: BaseException | None) -> None:
        while error is not None:
            trace = error.__traceback__
            while trace is not None:
                path = Path(trace.tb_frame.f_code.co_filename)
                if path.is_relative_to(ROOT / "vllm_diffusion"):
                    self.raised.add((path.relative_to(ROOT).as_posix(), trace.tb_lineno))
                trace = trace.tb_next
            error = error.__cause__ or error.__context__ or _within(error)


def _within(error: BaseException) -> BaseException | None:
    """What pydantic caught, which is neither the cause nor the context of its own error."""
    errors = getattr(error, "errors", None)
    found = errors() if callable(errors) else []
    caught = found[0].get("ctx", {}).get("error") if found else None
    return caught if isinstance(caught, BaseException) else None


def written(cases: Iterable[Case], recorder: Recorder) -> str:
    """The golden file's text of some cases."""
    return "".join(f"{case.name}\n  {recorder.said(case)}\n" for case in cases)


def places(*folders: str) -> Iterator[tuple[str, range]]:
    """Every ``raise`` at a user in files of the package: file, and its lines."""
    for name in folders:
        root = ROOT / "vllm_diffusion" / name
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Raise(exc=ast.Call(func=ast.Name(id=called))) if called in REFUSING:
                        end = node.end_lineno or node.lineno
                        relative = path.relative_to(ROOT).as_posix()
                        yield relative, range(node.lineno, end + 1)


def unmade(recorder: Recorder, *folders: str) -> tuple[list[str], int]:
    """Places that no case has made raise, and how many there are in all."""
    every = list(places(*folders))
    missing = [
        f"{path}:{lines.start}"
        for path, lines in every
        if not any((path, line) in recorder.raised for line in lines)
    ]
    return missing, len(every)
