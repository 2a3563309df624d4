"""How messages name what a client sent: never more than 200 characters of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

LONGEST = 200
"""Characters of a value that a message repeats."""
MAX_BITS = 8192
"""Of an integer that is written in digits; Python refuses some more."""
LONGEST_NAME = 64
"""Characters of a name for which it is asked what may have been meant."""
LONGEST_MESSAGE = 1500
"""Characters of a message of another's making, of which it is unknown what in it is a value."""

_QUOTED = re.compile(rf"(?<!\w)(['\"`])([^'\"`]{{{LONGEST}}})[^'\"`]+\1")
_LISTED = re.compile(rf"(\[[^\]]{{{LONGEST}}}|\{{[^}}]{{{LONGEST}}})[^\]}}]*[\]}}]")
_UNBROKEN = re.compile(rf"(\S{{{LONGEST}}})\S+")
_VALUE = re.compile(rf"(\bvalue=.{{{LONGEST}}}).+(?=\)$)", re.DOTALL)
_CUT = "..."


def quoted(value: object) -> str:
    """The value as Python writes it, cut where it is long.

    Only as much of it is looked at as is shown.
    """
    if isinstance(value, str):
        return _cut(repr(value[: LONGEST + 1]))
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, (list, tuple)):
        inside = _joined(quoted(each) for each in value[:LONGEST])
        text = f"[{inside}]" if isinstance(value, list) else f"({inside})"
        return _cut(text)
    if isinstance(value, dict):
        pairs = ((k, value[k]) for k in list(value)[:LONGEST])
        return _cut("{" + _joined(f"{quoted(k)}: {quoted(v)}" for k, v in pairs) + "}")
    return _cut(repr(value))


def _joined(parts: Iterable[str]) -> str:
    """The first parts, until there is enough of them."""
    text = ""
    for part in parts:
        text = f"{text}, {part}" if text else part
        if len(text) > LONGEST:
            break
    return text


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + _CUT


def shortened(message: str) -> str:
    """A message of vLLM's or a library's, without the long values that it may repeat."""
    if len(message) <= LONGEST:
        return message
    text = message[: 8 * LONGEST_MESSAGE]
    text = _QUOTED.sub(rf"\1\2{_CUT}\1", text)
    text = _LISTED.sub(rf"\1{_CUT}", text)
    text = _VALUE.sub(rf"\1{_CUT}", text)
    text = _UNBROKEN.sub(rf"\1{_CUT}", text)
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + _CUT


def close_to(name: str, known: Sequence[str]) -> str | None:
    """The known name that may have been meant."""
    if len(name) > LONGEST_NAME:
        return None
    return next(iter(get_close_matches(name, known, n=1, cutoff=0.75)), None)
