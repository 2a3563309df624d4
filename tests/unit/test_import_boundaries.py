"""What importing the package costs, and what runs where vLLM is not installed.

``test_house_style.py`` checks the modules of the decoding core; here are the
ones around it, and which package may know which.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "vllm_diffusion"
SIDE_BY_SIDE = ("server", "scheduler", "worker")
"""A process each: what two of them need is in a package that belongs to neither."""

# Which packages may import vLLM, at any place. The core may not (test_house_style.py).
NAMES_VLLM = {
    *("server", "scheduler", "worker", "batch", "sampling", "models", "cpu", "isolation"),
    *("compat", "patching", "configs", "startup", "executor", "doctor", "endpoints"),
    "terminal",
}


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_itself_imports_nothing() -> None:
    """vLLM imports it in every process, of any model."""
    loaded = run(
        "import sys, vllm_diffusion, vllm_diffusion.plugin\n"
        "print(sorted({'torch', 'numpy', 'vllm', 'rich', 'prometheus_client'} & set(sys.modules)))"
    )
    assert loaded == "[]"


def test_modules_around_the_core_load_without_vllm() -> None:
    """Neither vLLM nor what comes with it, so that they can be tested and read anywhere."""
    loaded = run(
        "import sys; sys.modules['vllm'] = None\n"
        "import vllm_diffusion.mask_groups.sequences, vllm_diffusion.mask_groups.dense\n"
        "import vllm_diffusion.sampling.ops, vllm_diffusion.sampling.logprobs\n"
        "import vllm_diffusion.cli, vllm_diffusion.doctor, vllm_diffusion.compat\n"
        "print(sorted({'transformers', 'triton'} & set(sys.modules)))"
    )
    assert loaded == "[]"


def _statements(nodes: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports anywhere in a file, but for those that only a type checker reads."""
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        yield from _statements(ast.iter_child_nodes(node))


def _imported(path: Path) -> set[str]:
    """Full names of the modules, or of what is taken from them."""
    names: set[str] = set()
    for node in _statements([ast.parse(path.read_text(encoding="utf-8"))]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert not node.level, f"{path}: relative"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _modules() -> dict[str, Path]:
    paths = [path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts]
    names = {p: ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in paths}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def _arrows() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports; parents of what is imported do not count."""
    modules = _modules()
    arrows: dict[str, set[str]] = {}
    for name, path in modules.items():
        found = {n if n in modules else n.rpartition(".")[0] for n in _imported(path)}
        arrows[name] = (found & modules.keys()) - {name, "vllm_diffusion"}
    return arrows


def _package(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def _package_arrows() -> dict[str, set[str]]:
    arrows: dict[str, set[str]] = {}
    for name, found in _arrows().items():
        package = _package(name)
        arrows.setdefault(package, set()).update(set(map(_package, found)) - {package})
    return arrows


def _circle(arrows: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_modules_import_in_no_circle() -> None:
    assert not _circle(_arrows())


def test_packages_import_in_no_circle() -> None:
    assert not _circle(_package_arrows())


def test_processes_know_nothing_of_each_other() -> None:
    arrows = _package_arrows()
    assert not {
        f"{one} -> {other}"
        for one in SIDE_BY_SIDE
        for other in SIDE_BY_SIDE
        if other in arrows[one]
    }


def test_only_named_packages_import_vllm() -> None:
    found = {
        _package(name)
        for name, path in _modules().items()
        if any(imported.split(".")[0] == "vllm" for imported in _imported(path))
    }
    assert found <= NAMES_VLLM


@pytest.mark.parametrize(
    ("arrows", "is_found"), [({"a": {"b"}, "b": {"a"}}, True), ({"a": {"b"}}, False)]
)
def test_a_circle_is_found(arrows: dict[str, set[str]], is_found: bool) -> None:
    assert bool(_circle(arrows)) == is_found
