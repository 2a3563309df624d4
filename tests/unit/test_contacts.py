"""Contacts with vLLM: every one is an entry, every probe passes, and every probe can fail.

vLLM is read, not imported: the tests run where its compiled parts are missing.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from scripts import contact_table, probe_contacts
from vllm_diffusion.compat import CONTACTS, PATCHES, WORKER_PATCHES
from vllm_diffusion.compat.checks import Calls, Check, Has, Reads, Spells, Takes, Typed
from vllm_diffusion.compat.contact import Contact
from vllm_diffusion.compat.kernels import Kernels
from vllm_diffusion.compat.source import Source

PACKAGE = Path(__file__).resolve().parents[2] / "vllm_diffusion"
# What vLLM documents for users and plugins: imports of it are no entries.
PUBLIC = {
    "vllm",
    "vllm.config",
    "vllm.engine.arg_utils",
    "vllm.exceptions",
    "vllm.logger",
    "vllm.outputs",
    "vllm.platforms",
    "vllm.sampling_params",
    "vllm.triton_utils",
}
SCHEDULER = "vllm.v1.core.sched.scheduler.Scheduler"
each = pytest.mark.parametrize("contact", CONTACTS, ids=lambda contact: contact.name)


@pytest.fixture(scope="module")
def vllm() -> Source:
    try:
        return Source.installed()
    except ModuleNotFoundError:
        pytest.skip("vLLM is not installed")


class Renamed(Source):
    """A vLLM in which names are gone, or all that start with them."""

    def __init__(self, vllm: Source, names: set[str], *, are_starts: bool = False) -> None:
        super().__init__(vllm.folder)
        end = "" if are_starts else r"\b"
        self.pattern = re.compile(rf"\b({'|'.join(map(re.escape, sorted(names)))}){end}")
        self.vllm, self.names = vllm, names

    def file(self, module: str) -> Path | None:
        return None if module.rpartition(".")[2] in self.names else super().file(module)

    def _tree(self, module: str) -> ast.Module | None:
        file = self.file(module)
        if file is None or not self.pattern.search(self.read(file)):
            return self.vllm.tree(module) if file else None
        return ast.parse(self.pattern.sub(r"moved_\1", self.read(file)))


@each
def test_a_contact_says_all_of_it(contact: Contact) -> None:
    assert contact.targets
    assert all(target.startswith("vllm.") for target in contact.targets)
    assert contact.what.endswith(".")
    for text in (contact.why, contact.acts, contact.breaks, contact.remove):
        assert len(text) > 10
        assert not text.endswith(".")


def test_names_are_of_one_contact_each() -> None:
    names = [contact.name for contact in CONTACTS]
    assert len(names) == len({*names})
    patches = [patch.contact for patch in (*PATCHES, *WORKER_PATCHES)]
    assert patches == [contact for contact in CONTACTS if contact.kind == "patch"]


@each
def test_a_probe_passes(contact: Contact, vllm: Source) -> None:
    assert contact.probe(vllm) == ()


@each
def test_a_target_that_is_gone_is_named(contact: Contact, vllm: Source) -> None:
    moved = Renamed(vllm, {target.rpartition(".")[2] for target in contact.targets})
    said = contact.probe(moved)
    assert {f"{target} is not there" for target in contact.targets} <= {*said}


def asked(check: Check) -> set[str]:
    """The names that a check looks for in what it looks at."""
    match check:
        case Has(names=names) | Takes(names=names):
            return {*names}
        case Typed(types=texts):
            return {text.partition("[")[0].partition(" ")[0] for text in texts}
        case Kernels():
            from vllm_diffusion.cpu.registry import KERNELS

            return {name.rpartition(".")[2] for name in KERNELS}
    name: str = check.name  # type: ignore[attr-defined]
    return {name.rpartition(".")[2]}


@each
def test_every_check_can_fail(contact: Contact, vllm: Source) -> None:
    for check in contact.checks:
        places = {*check.where.split(".")}
        moved = Renamed(
            vllm, asked(check) - places or asked(check), are_starts=isinstance(check, Spells)
        )
        assert check(moved) is not None, check


@pytest.mark.parametrize(
    "check",
    [
        Calls(f"{SCHEDULER}.schedule", "self._mamba_block_aligned_split", 3),
        Reads(f"{SCHEDULER}.schedule", "self.no_such_flag"),
        Takes(f"{SCHEDULER}._mamba_block_aligned_split", ("num_new_tokens", "request")),
        Takes(f"{SCHEDULER}.running", ("self",)),
        Typed(f"{SCHEDULER}.grammar_compile_error_reqs", ("dict[str, str]", "list[str]")),
    ],
    ids=["too few calls", "not read", "another order", "no function", "another type"],
)
def test_a_check_says_what_it_has_found(check: Check, vllm: Source) -> None:
    said = check(vllm)
    assert said is not None
    assert check.where in said


def test_vllms_scheduler_asks_our_hook_for_both_queues(vllm: Source) -> None:
    """What blocks rest on: not called, it would fail nowhere and give wrong tokens."""
    schedule = vllm.find(f"{SCHEDULER}.schedule")
    assert schedule is not None
    asks = [
        ast.unparse(node.body[0])
        for node in ast.walk(schedule)
        if isinstance(node, ast.If)
        and ast.unparse(node.test) == "self.need_mamba_block_aligned_split"
    ]
    assert len(asks) == 2
    assert all(
        ask.startswith("num_new_tokens = self._mamba_block_aligned_split(request, num_new_tokens")
        for ask in asks
    )


def test_the_triton_of_other_hosts_is_not_looked_at() -> None:
    names = {contact.name for contact in CONTACTS if contact.without_triton}
    assert names == {
        "runner_without_triton",
        "cpu_kernels",
        "next_power_of_2",
        "gemma_without_images",
    }


def test_the_page_of_contacts_is_up_to_date(tmp_path: Path) -> None:
    copy = tmp_path / "compatibility.md"
    shutil.copy(contact_table.PAGE, copy)
    contact_table.write(copy)
    assert copy.read_text() == contact_table.PAGE.read_text(), "run `make docs`"


def test_every_contact_is_on_the_page() -> None:
    text = contact_table.PAGE.read_text()
    assert all(f"| `{contact.name}` |" in text for contact in CONTACTS)


@pytest.mark.parametrize(("is_moved", "status"), [(False, 0), (True, 1)])
def test_the_script_says_what_has_moved(
    is_moved: bool, status: int, monkeypatch: pytest.MonkeyPatch, capsys: Any, vllm: Source
) -> None:
    gone = replace(CONTACTS[0], targets=("vllm.config.gone",))
    monkeypatch.setattr(probe_contacts, "CONTACTS", (gone,) if is_moved else CONTACTS[:1])
    assert probe_contacts.main([str(vllm.folder)]) == status
    printed = capsys.readouterr().out
    assert ("vllm.config.gone is not there" in printed) == is_moved
    assert f"{1 - is_moved} of 1 contacts are where they were" in printed


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


@cache
def mentioned() -> frozenset[str]:
    """Every dotted name that an entry mentions."""
    names: set[str] = set()
    for contact in CONTACTS:
        names |= {*contact.targets}
        for check in contact.checks:
            names.add(check.where)
            names |= {f"{check.where}.{name}" for name in asked(check)}
    return frozenset(names)


def is_entry(dotted: str) -> bool:
    return any(name == dotted or name.startswith(f"{dotted}.") for name in mentioned())


def test_every_import_from_inside_vllm_is_an_entry() -> None:
    missing = {
        f"{file}: {node.module}.{alias.name}"
        for file, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm"
        for alias in node.names
        if node.module not in PUBLIC and not is_entry(f"{node.module}.{alias.name}")
    }
    assert not sorted(missing)


def of_others(tree: ast.Module) -> Iterator[str]:
    """Private attributes of objects that a file does not define."""
    own = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    own |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    }
    own |= {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not re.fullmatch(r"_[a-zA-Z]\w*", node.attr):
            continue
        if node.attr not in own or ast.unparse(node.value) == "super()":
            yield node.attr


# Private, and not vLLM's: of a NamedTuple, of ``re``, of another module of ours.
NOT_VLLMS = {"_replace", "_asdict", "_started", "_extra_content"}


def test_every_private_attribute_of_vllms_is_an_entry() -> None:
    known = {name.rpartition(".")[2] for name in mentioned()} | NOT_VLLMS
    missing = {
        f"{file}: {name}" for file, tree in trees() for name in of_others(tree) if name not in known
    }
    assert not sorted(missing)


def test_classes_of_objects_are_changed_in_one_place() -> None:
    places = [
        file
        for file, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "__class__"
        and isinstance(node.ctx, ast.Store)
    ]
    assert places == ["models/bailing.py"]
    assert any("models/bailing.py" in contact.acts for contact in CONTACTS)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[dict[str, str]], Source]:
    """A vLLM of a few lines."""

    def write(files: dict[str, str]) -> Source:
        for name, text in files.items():
            path = tmp_path / "vllm" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Source(tmp_path / "vllm")

    return write


@pytest.mark.parametrize(
    ("dotted", "is_there"),
    [
        ("vllm.a.One", True),
        ("vllm.a.One.said", True),
        ("vllm.a.One.inherited", True),
        ("vllm.a.One.of_init", True),
        ("vllm.a.in_branch", True),
        ("vllm.pack.One.said", True),  # through an import
        ("vllm.pack.near", True),  # through a relative one
        ("vllm.pack.elsewhere", True),  # not vLLM's, but named there
        ("vllm.a.One.missing", False),
        ("vllm.a.One.said.more", False),
        ("vllm.b", False),
        ("vllm.pack.gone", False),  # imported from where it is not
    ],
)
def test_names_are_found_where_python_would(
    dotted: str, is_there: bool, written: Callable[[dict[str, str]], Any]
) -> None:
    source = written(
        {
            "__init__.py": "",
            "a.py": "from vllm.pack.base import Base as B\n"
            "class One(B):\n"
            "    said: int = 1\n"
            "    def __init__(self):\n"
            "        self.of_init = 2\n"
            "try:\n    in_branch = 1\nexcept ImportError:\n    pass\n",
            "pack/__init__.py": "from vllm.a import One\nfrom .base import near\n"
            "from torch import elsewhere\nfrom vllm.a import gone\n",
            "pack/base.py": "class Base:\n    def inherited(self): ...\ndef near(): ...\n",
        }
    )
    assert (source.find(dotted) is not None) == is_there
