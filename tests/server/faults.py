"""Faults that a server of a test is started with, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace


def broken_automaton() -> None:
    """What is compiled for a constraint that says "broken" allows other texts."""
    from vllm_diffusion.structured.compiled import Compiled
    from vllm_diffusion.structured.constraint import Constraint
    from vllm_diffusion.structured.service import _Process

    right = _Process.compile

    def compile(self: _Process, constraint: Constraint) -> Compiled:
        if "broken" in constraint.spec:
            spec = constraint.spec.replace("[a-z]", "[0-9]").replace('"integer"', '"boolean"')
            constraint = replace(constraint, spec=spec)
        return right(self, constraint)

    _Process.compile = compile  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {"broken automaton": broken_automaton}
