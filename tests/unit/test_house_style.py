"""Holds the repository to its house style: small files, a vLLM-free core, nothing of one machine.

The rules themselves stand in docs/structure.md. Only files that git tracks, or would track, count.
"""

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vllm_diffusion"

MAX_LINES = 400
MAX_MEDIAN_LINES = 120
VAGUE_NAMES = {"util.py", "utils.py", "helpers.py", "misc.py"}

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Top-level modules and packages of vllm_diffusion that run without vLLM; all others may import it.
CORE = set(PYPROJECT["tool"]["vllm_diffusion"]["core"])


def _repository_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return sorted(path for path in paths if path.is_file())


def _modules() -> list[Path]:
    return [path for path in _repository_files() if path.is_relative_to(PACKAGE) and _is_py(path)]


def _is_py(path: Path) -> bool:
    return path.suffix == ".py"


def _num_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _part(module: Path) -> str:
    """The top-level name inside the package that a module belongs to: `denoise`, `canvas`, ..."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(tree: ast.Module) -> set[str]:
    """Absolute module names imported anywhere in a file, functions and `import_module` included."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str(name), level=0):
                names.add(name)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                names.add(name)
    return names


def test_source_files_are_short() -> None:
    sources = [p for p in _repository_files() if p.suffix in {".py", ".cpp", ".h"}]
    too_long = {_name(p): n for p in sources if (n := _num_lines(p)) > MAX_LINES}
    assert not too_long


def test_median_module_is_short() -> None:
    assert statistics.median(_num_lines(path) for path in _modules()) < MAX_MEDIAN_LINES


def test_files_are_named_for_what_they_hold() -> None:
    assert not [_name(path) for path in _repository_files() if path.name in VAGUE_NAMES]


def test_modules_say_what_they_are_for() -> None:
    trees = {_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in _modules()}
    assert not [name for name, tree in trees.items() if not ast.get_docstring(tree)]


def test_the_core_is_there() -> None:
    assert {_part(module) for module in _modules()} > CORE


def test_the_core_does_not_name_vllm() -> None:
    offenders = {}
    for module in _modules():
        if _part(module) not in CORE:
            continue
        imports = _imports(ast.parse(module.read_text(encoding="utf-8")))
        if names := sorted(name for name in imports if name.split(".")[0] == "vllm"):
            offenders[_name(module)] = names
    assert not offenders


def test_core_loads_without_vllm() -> None:
    """What the core imports must not pull vLLM in through another module of the package."""
    core = [path for path in _modules() if _part(path) in CORE]
    dotted = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in core
    ]
    program = (
        "import importlib, sys\n"
        "sys.modules['vllm'] = None  # any import of it now raises\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *dotted], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def _machine_path_pattern() -> re.Pattern[str]:
    """Paths that are true on one machine alone: this checkout, this home, anybody's home."""
    shared_by_all = {Path("/"), Path("/tmp"), Path("/home"), Path("/opt"), Path("/usr/src")}
    here = {ROOT, ROOT.parent, Path.home()} - shared_by_all
    literal = [re.escape(f"{path}/") for path in sorted(here)]
    anybody = [r"/(?:home|Users)/[A-Za-z_][\w.-]*/"]
    return re.compile(r"(?<![\w.~$})/-])(?:" + "|".join([*literal, *anybody]) + ")")


def test_no_paths_of_one_machine() -> None:
    pattern = _machine_path_pattern()
    found = {}
    for path in _repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # binary
        if match := pattern.search(text):
            found[_name(path)] = match.group()
    assert not found


SUFFIX = re.compile(r"\b[a-z][a-z0-9_]*_([A-Z][A-Z0-9]*)\b")
SAID = re.compile(r"[Ss]uffix(?:es)?:?\s(.*?)(?:\.\n|\.$|\n\n|\Z)", re.DOTALL)
SMALL_WORDS = set("of them the a an in that with are is has have to held their its and so".split())


def _letters() -> dict[str, set[str]]:
    """The glossary's letters, and the words of what each may count."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z]) \|(.*)\|$", text, re.MULTILINE)
    return {letter: set(re.findall(r"\w+", cells)) - SMALL_WORDS for letter, cells in rows}


def _said(docstring: str) -> dict[str, str]:
    """What a docstring says of letters: ``Shape suffixes: S slots, L canvas length.``"""
    if (found := SAID.search(docstring)) is None:
        return {}
    parts = re.split(r"[,;]\s+|\sand\s|:\s", found.group(1).replace("\n", " "))
    return {part[0]: part[2:] for part in parts if re.match(r"[A-Z] \w", part)}


def test_letters_of_shapes_are_those_of_the_glossary() -> None:
    letters = _letters()
    strange = {}
    for module in _modules():
        text = module.read_text(encoding="utf-8")
        used = {c for suffix in SUFFIX.findall(text) for c in suffix if not c.isdigit()}
        said = _said(ast.get_docstring(ast.parse(text)) or "")
        wrong = {f"{c} {said[c]}" for c in said if not letters.get(c, set()) & {*said[c].split()}}
        if found := (used - letters.keys()) | wrong:
            strange[_name(module)] = sorted(found)
    assert not strange


def _names(tree: ast.AST) -> Iterator[str]:
    """What a module calls its classes, functions, arguments, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _words_of(name: str) -> set[str]:
    return {*re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().split("_")}


def test_names_use_the_words_of_the_glossary() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    table = text.split("| not | but |")[1].split("\n\n")[0]
    given_up = set(re.findall(r"^\| ([a-z]+) \|", table, re.MULTILINE))
    assert "ledger" in given_up
    strange = {}
    for module in _modules():
        tree = ast.parse(module.read_text(encoding="utf-8"))
        if found := {name for name in _names(tree) if _words_of(name) & given_up}:
            strange[_name(module)] = sorted(found)
    assert not strange
