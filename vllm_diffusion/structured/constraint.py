"""What a request's text is held to, and why it may be refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["json", "json_object", "regex", "choice", "grammar", "structural_tag", "lexical"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint, as a key: equal ones are compiled once."""

    kind: Kind
    spec: str
    """A schema, a list of choices and a structural tag as JSON; lexical constraints likewise."""
    separators: tuple[str, str] = (", ", ": ")
    """Behind items and keys of JSON."""
    is_closed: bool = True
    """Whether an object that does not say has the properties of its schema alone."""


class RefusedError(ValueError):
    """A constraint that is not served: what of it, and what to do.

    Args:
        reason: names the construct and the remedy.
        pointer: JSON pointer into the schema; "" where there is none.
    """

    def __init__(self, reason: str, pointer: str = "") -> None:
        super().__init__(f"{reason} (at {pointer})" if pointer else reason)


class BoundError(RefusedError):
    """A bound of time or memory was passed: on another day it may not be."""


class TooLargeError(ValueError):
    """A mechanism's bound is passed: the next simpler one has to do."""
