"""What a probe asks of vLLM's files. Each check is a question; its answer is what is wrong.

None of them imports vLLM or changes anything.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from vllm_diffusion.compat.source import Function, Source


class Check(Protocol):
    """One question."""

    @property
    def where(self) -> str:
        """The name in vLLM that is looked at."""

    def __call__(self, vllm: Source) -> str | None:
        """What is wrong, in a sentence without its end; None where nothing is."""


@dataclass(frozen=True, slots=True)
class Exists:
    """The name is defined."""

    where: str

    def __call__(self, vllm: Source) -> str | None:
        return None if vllm.find(self.where) is not None else f"{self.where} is not there"


@dataclass(frozen=True, slots=True)
class Has:
    """A class, or its objects, have these attributes."""

    where: str
    names: tuple[str, ...]

    def __call__(self, vllm: Source) -> str | None:
        missing = [name for name in self.names if vllm.find(f"{self.where}.{name}") is None]
        return f"{self.where} has no {', '.join(missing)}" if missing else None


@dataclass(frozen=True, slots=True)
class Takes:
    """A function's parameters start with these, ``self`` left out; out of order, it has them."""

    where: str
    names: tuple[str, ...]
    in_order: bool = True

    def __call__(self, vllm: Source) -> str | None:
        found = vllm.find(self.where)
        if not isinstance(found, Function):
            return f"{self.where} is no function"
        given, names = parameters(found), self.names
        if given[: len(names)] == names if self.in_order else {*names} <= {*given}:
            return None
        return f"{self.where} takes {', '.join(given) or 'nothing'}; expected {', '.join(names)}"


@dataclass(frozen=True, slots=True)
class TakesOnly:
    """A function's parameters are these."""

    where: str
    names: tuple[str, ...]

    def __call__(self, vllm: Source) -> str | None:
        found = vllm.find(self.where)
        if not isinstance(found, Function):
            return f"{self.where} is no function"
        given = parameters(found)
        if given == self.names:
            return None
        gone = [name for name in self.names if name not in given]
        new = [name for name in given if name not in self.names]
        return f"{self.where} has other parameters (gone: {gone}, new: {new})"


@dataclass(frozen=True, slots=True)
class Calls:
    """The code of ``where`` calls a function by this name, so many times at the least."""

    where: str
    name: str
    num: int = 1

    def __call__(self, vllm: Source) -> str | None:
        calls = (node for node in _code(vllm, self.where) if isinstance(node, ast.Call))
        num = sum(ast.unparse(call.func) == self.name for call in calls)
        return _too_few(self.where, "calls", self.name, num, self.num)


@dataclass(frozen=True, slots=True)
class Reads:
    """The code of ``where`` reads this attribute or name, so many times at the least."""

    where: str
    name: str
    num: int = 1

    def __call__(self, vllm: Source) -> str | None:
        num = sum(isinstance(ctx, ast.Load) for ctx in _uses(vllm, self.where, self.name))
        return _too_few(self.where, "reads", self.name, num, self.num)


@dataclass(frozen=True, slots=True)
class Sets:
    """The code of ``where`` assigns to this name or attribute."""

    where: str
    name: str

    def __call__(self, vllm: Source) -> str | None:
        num = sum(isinstance(ctx, ast.Store) for ctx in _uses(vllm, self.where, self.name))
        return _too_few(self.where, "sets", self.name, num, 1)


@dataclass(frozen=True, slots=True)
class Spells:
    """The code of ``where`` holds a text that starts so."""

    where: str
    name: str

    def __call__(self, vllm: Source) -> str | None:
        nodes = (node for node in _code(vllm, self.where) if isinstance(node, ast.Constant))
        num = sum(isinstance(n.value, str) and n.value.startswith(self.name) for n in nodes)
        return _too_few(self.where, "spells", self.name, num, 1)


@dataclass(frozen=True, slots=True)
class Typed:
    """An attribute is declared with one of these types."""

    where: str
    types: tuple[str, ...]

    def __call__(self, vllm: Source) -> str | None:
        found, expected = vllm.find(self.where), " or ".join(self.types)
        if not isinstance(found, ast.AnnAssign):
            return f"{self.where} has no declared type; expected {expected}"
        said = ast.unparse(found.annotation)
        return None if said in self.types else f"{self.where} is {said}; expected {expected}"


def parameters(function: Function) -> tuple[str, ...]:
    """The names of a function's parameters, ``self`` and ``cls`` left out."""
    given = function.args
    names = [p.arg for p in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return tuple(names[names[:1] in (["self"], ["cls"]) :])


def _code(vllm: Source, where: str) -> Iterator[ast.AST]:
    """Every node of what is defined there; none where it is not."""
    found = vllm.find(where)
    return ast.walk(found) if found is not None else iter(())


def _uses(vllm: Source, where: str, name: str) -> Iterator[ast.expr_context]:
    """How each mention of a name or attribute is meant."""
    for node in _code(vllm, where):
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) == name:
            yield node.ctx


def _too_few(where: str, verb: str, name: str, num: int, expected: int) -> str | None:
    if num >= expected:
        return None
    if expected == 1:
        return f"{where} no longer {verb} {name}"
    return f"{where} {verb} {name} {num} times; expected {expected}"
