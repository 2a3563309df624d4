"""A family of each mask group for the table, with modes that differ in what they compute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.checkpoints import llada_moe, sdar
from tests.parity import family_bench
from tests.parity.families import BASE, FAMILIES, SPECULATION, Family, Mode
from tests.parity.family_bench import CACHES, CANVASES, EDITS, LLADA, LLADA2, NEMOTRON

_BY_MODULE = {family.module: family for family in FAMILIES}


@dataclass(frozen=True, kw_only=True)
class Group:
    """A family of a mask group, with some of its modes."""

    title: str
    """The mask group, as the docs call it."""
    name: str
    family: Family
    modes: tuple[Mode, ...]

    def write(self, folder: Path) -> Path:
        """A random checkpoint with a tokenizer, which structured output needs."""
        return family_bench.write(self.family, folder, tokenizer=True)


DENSE = (
    Group(title="block-causal", name="SDAR", family=_BY_MODULE[sdar], modes=BASE),
    Group(
        title="causal context",
        name="Nemotron-Labs-Diffusion",
        family=NEMOTRON,
        modes=(*CANVASES, SPECULATION),
    ),
    Group(title="full", name="LLaDA", family=LLADA, modes=CACHES),
)
TITLES = tuple(group.title for group in DENSE)
EXPERTS = (
    Group(title="block-causal", name="LLaDA2.1", family=LLADA2, modes=EDITS),
    Group(
        title="full",
        name="LLaDA-MoE",
        family=_BY_MODULE[llada_moe],
        modes=_BY_MODULE[llada_moe].modes,
    ),
)
"""No family of the causal context has experts."""
