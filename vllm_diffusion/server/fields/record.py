"""What becomes of a field of a request, as a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["honoured", "depends", "refused", "meaningless"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request."""

    status: Status
    """``depends``: on the model or on the server's options, honoured or else refused."""
    reason: str
    """How it is honoured, why it is refused and what to do, or why it means nothing."""
    neutral_values: tuple[Any, ...] | None = None
    """Of a field that ``admission`` refuses by this record: the values, beside null and what is
    empty, that ask for nothing. None where another check decides, vLLM's or this package's."""


def honoured(reason: str) -> Field:
    return Field("honoured", reason)


def depends(reason: str) -> Field:
    return Field("depends", reason)


def meaningless(reason: str) -> Field:
    return Field("meaningless", reason)


def refused(reason: str, *neutral_values: Any) -> Field:
    return Field("refused", reason, neutral_values)
