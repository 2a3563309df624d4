"""The record of one contact with vLLM that is not public; a patch's docstring is part of its."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vllm_diffusion.compat.checks import Check, Exists
from vllm_diffusion.compat.source import Source
from vllm_diffusion.patching import once

Kind = Literal["patch", "override", "registry", "inside"]
"""A patch: something of vLLM's is replaced. An override: vLLM calls a method of a class of ours. A
registry: a table of vLLM's gets entries. Inside: names in vLLM are read, written or called.
"""

DOCSTRING = re.compile(
    r"(?P<what>.+?\.) Without it[:,]? (?P<why>.+?)\. "
    r"Acts (?P<acts>.+)\. Remove when (?P<remove>.+)\."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """One contact: what is touched, why, and how to see that it is still what it was."""

    name: str
    kind: Kind
    targets: tuple[str, ...]
    """Dotted names in vLLM, each of which must be there."""
    what: str
    """What the contact is for, a sentence."""
    why: str
    """What happens without it."""
    acts: str
    """Where: the process, and the file or the object."""
    breaks: str
    """What goes wrong when vLLM moves it and nobody notices."""
    remove: str
    """When the contact can go."""
    checks: tuple[Check, ...] = ()
    """What must hold beyond the targets being there."""
    without_triton: bool = False
    """Is it touched only where vLLM has no Triton, on CPUs?"""

    def probe(self, vllm: Source) -> tuple[str, ...]:
        """What is no longer as expected; empty where all is well. Imports nothing of vLLM."""
        questions = (*map(Exists, self.targets), *self.checks)
        return tuple(said for check in questions if (said := check(vllm)) is not None)


@dataclass(frozen=True, slots=True)
class Patch:
    """A contact that replaces something: its record, and what applies it."""

    contact: Contact
    apply: Callable[[], None]

    def __call__(self) -> None:
        """Apply it, once a process."""
        self.apply()


def patch(
    *targets: str, breaks: str, checks: tuple[Check, ...] = (), without_triton: bool = False
) -> Callable[[Callable[[], None]], Patch]:
    """Make a patch of a function, whose docstring is the rest of the record."""

    def made(function: Callable[[], None]) -> Patch:
        said = DOCSTRING.fullmatch(" ".join((function.__doc__ or "").split()))
        assert said is not None, f"{function.__name__}: 'Without it', 'Acts' and 'Remove when'"
        contact = Contact(
            name=function.__name__,
            kind="patch",
            targets=targets,
            breaks=breaks,
            checks=checks,
            without_triton=without_triton,
            **said.groupdict(),
        )
        return Patch(contact, once(function))

    return made
