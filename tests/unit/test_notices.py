"""What docs and docstrings name is there, and packages name all of their files.

``docs/log.md`` and the changelog tell of what was: they may name what is gone.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vllm_diffusion"
HISTORY = {"docs/log.md", "CHANGELOG.md"}

# A file or a folder in backticks; braces as a shell has them. What a tool writes is under build/.
FILE = re.compile(r"`((?!build/)[\w./{},*-]+(?:\.(?:py|h|cpp|md|sh|toml|yml|txt)|(?<=[\w}])/))`")
DOTTED = re.compile(r"`([a-z]\w*(?:\.\w+)+)(?<!\.py)(?<!\.md)(?<!\.h)(?:\(\))?`")
WORD = re.compile(r"``([a-z_][a-z0-9_]*)``")
# Where a relative path may start: a reader who is told `test_step.py` knows where tests are.
STARTS = [
    ROOT,
    PACKAGE,
    ROOT / "docs",
    ROOT / "csrc" / "include",
    *(ROOT / "tests" / suite for suite in ("unit", "parity", "server", "fuzz")),
]
NOT_OURS = {"generate.py"}  # a file of LLaDA's authors
VLLMS_TOO = {"metrics"}  # also a package of vLLM's and a field of its responses


def tracked(*suffixes: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return sorted(path for path in paths if path.suffix in suffixes and path.is_file())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def expanded(path: str) -> list[str]:
    """Braces written out, as a shell would."""
    if (braces := re.search(r"\{([^{}]*)\}", path)) is None:
        return [path]
    before, after = path[: braces.start()], path[braces.end() :]
    return [
        whole for part in braces.group(1).split(",") for whole in expanded(before + part + after)
    ]


def exists(path: str, beside: Path) -> bool:
    return any(next(start.glob(path.rstrip("/")), None) for start in (*STARTS, beside))


@cache
def modules() -> dict[str, Path]:
    """Every module and package of ours, by its dotted name inside ``vllm_diffusion``."""
    found = {}
    for path in tracked(".py"):
        if path.is_relative_to(PACKAGE) and path != PACKAGE / "__init__.py":
            parts = path.relative_to(PACKAGE).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def defined(path: Path) -> frozenset[str]:
    """Names at the top of a module, and those that its classes define."""
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node.body for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in [*tree.body, *(node for body in classes for node in body)]:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Assign():
                names.update(item.id for item in node.targets if isinstance(item, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.ImportFrom() | ast.Import():
                names.update(alias.asname or alias.name for alias in node.names)
    return frozenset(names)


def is_known(dotted: str) -> bool:
    """A module of ours, or a name in one; whatever does not start like one is not asked about."""
    parts = dotted.removeprefix("vllm_diffusion.").split(".")
    if parts[0] not in {name.partition(".")[0] for name in modules()} - VLLMS_TOO:
        return True
    for length in range(len(parts), 0, -1):
        if (path := modules().get(".".join(parts[:length]))) is not None:
            return set(parts[length:]) <= defined(path)
    return False


def texts() -> Iterator[tuple[Path, str]]:
    for path in tracked(".md", ".py", ".h", ".cpp"):
        if name_of(path) not in HISTORY:
            yield path, path.read_text(encoding="utf-8")


def test_named_files_exist() -> None:
    missing = {
        f"{name_of(path)}: {part}"
        for path, text in texts()
        for match in FILE.finditer(text)
        for part in expanded(match.group(1))
        if part not in NOT_OURS and not exists(part, path.parent)
    }
    assert not sorted(missing)


def test_named_modules_and_their_names_exist() -> None:
    missing = {
        f"{name_of(path)}: {match.group(1)}"
        for path, text in texts()
        if path != Path(__file__)
        for match in DOTTED.finditer(text)
        if not is_known(match.group(1))
    }
    assert not sorted(missing)


@pytest.mark.parametrize(
    ("dotted", "known"),
    [
        ("denoise.step", True),
        ("vllm_diffusion.family.rows.FAMILIES", True),
        ("denoise.step.no_such_function", False),
        ("server.no_such_module", False),
        ("torch.no_such_name", True),
    ],
)
def test_what_is_asked_about(dotted: str, known: bool) -> None:
    assert is_known(dotted) == known


def packages() -> list[str]:
    return ["", *(name for name, path in modules().items() if path.name == "__init__.py")]


@pytest.mark.parametrize("package", packages() or [""], ids=lambda name: name or "vllm_diffusion")
def test_a_packages_docstring_is_its_table_of_contents(package: str) -> None:
    folder = PACKAGE.joinpath(*package.split(".")) if package else PACKAGE
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    said = set(WORD.findall(docstring or ""))
    inside = {name.rpartition(".")[2] for name in modules() if name.rpartition(".")[0] == package}
    assert not inside - said, "files that the docstring does not name"
    known = {part for name in modules() for part in name.split(".")} | {"csrc", "_cpu_ops"}
    known |= {name for path in modules().values() for name in defined(path)}
    assert not said - known, "names of nothing"


def test_tables_are_whole() -> None:
    """A blank line ends a table: rows behind it are shown as text."""
    cut = []
    for path in tracked(".md"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            starts = line.startswith("|") and (number == 0 or not lines[number - 1].startswith("|"))
            rule = lines[number + 1] if number + 1 < len(lines) else ""
            if starts and not re.fullmatch(r"\|[-:| ]+\|", rule):
                cut.append(f"{name_of(path)}:{number + 1}")
    assert not cut
