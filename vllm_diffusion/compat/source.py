"""vLLM's Python files, read and never imported: what they define, and what they call.

So a vLLM can be asked whose compiled parts are not there, and asking changes nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = ast.Module | ast.ClassDef


class Source:
    """One vLLM; names are dotted and start with ``vllm``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Of the package itself."""
        self.tree = cache(self._tree)
        self.find = cache(self._find)

    @classmethod
    @cache
    def installed(cls) -> Source:
        """That which ``import vllm`` would load.

        Raises:
            ModuleNotFoundError: there is none.
        """
        spec = find_spec("vllm")
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError("vLLM is not installed")
        return cls(Path(spec.submodule_search_locations[0]))

    def file(self, module: str) -> Path | None:
        """Where a module is; None where there is no such module."""
        path = self.folder.joinpath(*module.split(".")[1:])
        files = (path / "__init__.py", path.parent / f"{path.name}.py")
        return next((file for file in files if file.is_file()), None)

    def read(self, file: Path) -> str:
        """A module's text."""
        return file.read_text(encoding="utf-8")

    def _tree(self, module: str) -> ast.Module | None:
        file = self.file(module)
        return None if file is None else ast.parse(self.read(file))

    def split(self, dotted: str) -> tuple[str, list[str]]:
        """The longest part that is a module, and what is looked for in it."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            module = ".".join(parts[:length])
            if self.tree(module) is not None:
                return module, parts[length:]
        return "", parts

    def _find(self, dotted: str) -> ast.AST | None:
        """What defines a name: a class, a function, an assignment, an import from elsewhere."""
        module, names = self.split(dotted)
        scope: ast.AST | None = self.tree(module) if module else None
        for index, name in enumerate(names):
            if not isinstance(scope, Scope):
                return None
            found = self._member(scope, name, module)
            if isinstance(found, ast.ImportFrom) and (origin := self._origin(found, name, module)):
                rest = ".".join(names[index + 1 :])
                return self.find(f"{origin}.{rest}" if rest else origin)
            scope = found
        return scope

    def _member(self, scope: Scope, name: str, module: str) -> ast.AST | None:
        for node in statements(scope.body):
            if name in _names(node):
                return node
        if isinstance(scope, ast.Module):
            return None
        for line in ast.walk(scope):
            if f"self.{name}" in map(ast.unparse, _set_by(line)):
                return line
        for base in scope.bases:
            found = self.find(f"{module}.{ast.unparse(base).partition('[')[0]}")
            if isinstance(found, ast.ClassDef):
                home = self._home(module, ast.unparse(base).partition("[")[0])
                if (member := self._member(found, name, home)) is not None:
                    return member
        return None

    def _home(self, module: str, name: str) -> str:
        """The module that defines what ``module`` calls ``name``."""
        tree = self.tree(module)
        for node in statements(tree.body if tree else ()):
            if isinstance(node, ast.ImportFrom) and name in _names(node):
                origin = self._origin(node, name, module)
                return self.split(origin)[0] if origin else module
        return module

    def _origin(self, node: ast.ImportFrom, name: str, module: str) -> str | None:
        """The full name of what is imported as ``name``; None where it is not vLLM's."""
        real = next(alias.name for alias in node.names if name in (alias.asname, alias.name))
        if not node.level:
            return f"{node.module}.{real}" if (node.module or "").startswith("vllm") else None
        file, package = self.file(module), module.split(".")
        num_up = node.level - (file is not None and file.name == "__init__.py")
        return ".".join(filter(None, (*package[: len(package) - num_up], node.module, real)))


def statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of a scope, in branches too, but not in what the scope defines."""
    for node in body:
        yield node
        match node:
            case ast.If() | ast.For() | ast.While():
                yield from statements([*node.body, *node.orelse])
            case ast.With():
                yield from statements(node.body)
            case ast.Try():
                handlers = [line for handler in node.handlers for line in handler.body]
                yield from statements([*node.body, *handlers, *node.orelse, *node.finalbody])


def _set_by(node: ast.AST) -> list[ast.Attribute]:
    """The attributes that an assignment sets."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [target for target in targets if isinstance(target, ast.Attribute)]


def _names(node: ast.stmt) -> set[str]:
    """What a statement defines in its scope."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Assign():
            return {
                part.id for t in node.targets for part in ast.walk(t) if isinstance(part, ast.Name)
            }
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case ast.ImportFrom():
            return {alias.asname or alias.name for alias in node.names}
    return set()
