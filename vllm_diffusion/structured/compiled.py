"""A compiled constraint: what another process needs to follow it, as plain arrays and texts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vllm_diffusion.structured.regex_dfa import ByteDfa
from vllm_diffusion.structured.token_dfa import TokenDfa


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Compiled:
    """One constraint over one vocabulary."""

    digest: str
    """Of constraint, vocabulary and limits: equal ones follow the same texts."""
    ending: tuple[int, ...]
    """A text from start to end, without its stop token."""
    is_shortest: bool
    """Whether no other text has fewer tokens."""
    tokens: TokenDfa | None = None
    dfa: ByteDfa | None = None
    grammar: str | None = None
    """As llguidance reads one."""
    hints: tuple[bytes, ...] = ()
    """See ``shortest_end``."""
    markers: tuple[bytes, ...] = ()
    """Of a grammar: see ``markers``."""
    lexical: str | None = None
    """The fields of a request, as JSON; tables are made of them again, they are small."""

    def pack(self) -> dict[str, Any]:
        """As values that any serializer takes."""
        out: dict[str, Any] = {
            "digest": self.digest,
            "ending": list(self.ending),
            "is_shortest": self.is_shortest,
            "grammar": self.grammar,
            "hints": list(self.hints),
            "markers": list(self.markers),
            "lexical": self.lexical,
        }
        if self.tokens is not None:
            out["tokens"] = _packed(self.tokens)
        if self.dfa is not None:
            out["dfa"] = _packed(self.dfa)
        return out

    @classmethod
    def unpack(cls, data: dict[str, Any]) -> Compiled:
        return cls(
            digest=data["digest"],
            ending=tuple(data["ending"]),
            is_shortest=data["is_shortest"],
            tokens=TokenDfa(**_unpacked(data["tokens"])) if "tokens" in data else None,
            dfa=ByteDfa(**_unpacked(data["dfa"])) if "dfa" in data else None,
            grammar=data["grammar"],
            hints=tuple(data["hints"]),
            markers=tuple(data["markers"]),
            lexical=data["lexical"],
        )

    @property
    def num_bytes(self) -> int:
        """Of memory, roughly."""
        parts = [part for part in (self.tokens, self.dfa) if part is not None]
        arrays = [getattr(part, field.name) for part in parts for field in fields(part)]
        size = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
        # llguidance keeps its parser's states beside the text.
        return size + (64 << 10) + 40 * len(self.grammar or "") + 8 * len(self.ending)


def _packed(part: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        is_array = isinstance(value, np.ndarray)
        out[field.name] = (
            [value.dtype.str, list(value.shape), value.tobytes()] if is_array else value
        )
    return out


def _unpacked(data: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _array(*value) if isinstance(value, (list, tuple)) else value
        for name, value in data.items()
    }


def _array(dtype: str, shape: list[int], data: bytes) -> NDArray[Any]:
    return np.frombuffer(data, dtype=dtype).reshape(shape)
