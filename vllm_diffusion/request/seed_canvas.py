"""What a request lays into its output before anything is decoded: pinned tokens, drafts, holes.

The keys and their meaning are vLLM's, but for one: a seed may be as long as the output, over
several blocks. They are a request's alone; a server has no defaults for them. Each is checked here,
``server.seed_canvas`` checks them against the model and the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vllm_diffusion.request.field_errors import PREFIX, InvalidFieldError

MOST = 1 << 20
"""Entries of a list; more than any output has."""
_LARGEST = 2**31 - 1
SEED = f"{PREFIX}seed_canvas"
PINNED = f"{PREFIX}pinned"
DRAFT = f"{PREFIX}draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedCanvas:
    """What a request lays into its output; positions count from the output's first token."""

    tokens: tuple[int, ...] = ()
    """Of the first positions; the mask token is a hole, and so is whatever lies behind them."""
    pinned: tuple[int, ...] = ()
    """Positions that are held, in their order. Other tokens are drafts."""
    read_only: bool = False
    """The seed is the whole output, or one block where there is none, and no token ends it."""
    constrained: bool = False
    """Candidates are among ``logprob_token_ids``."""
    follows: bool = False
    """The tokens are a draft of the whole text, which follows what is decoded: an insertion moves
    the rest of it."""

    def has_drafts(self, mask_id: int) -> bool:
        """Is any token laid that is not held?"""
        return len(self.tokens) - self.tokens.count(mask_id) > len(self.pinned)

    def pack(self) -> list[Any] | None:
        """What the engine is told, as values that any serializer takes."""
        return [list(self.tokens), list(self.pinned), self.follows] if self.tokens else None

    @classmethod
    def unpack(cls, packed: Any) -> SeedCanvas | None:
        """What ``pack`` has packed."""
        if packed is None:
            return None
        tokens, pinned, follows = packed
        return cls(tokens=tuple(tokens), pinned=tuple(pinned), follows=follows)


def _numbers(what: str) -> Callable[[str, object], tuple[int, ...]]:
    def parse(field: str, value: object) -> tuple[int, ...]:
        if not isinstance(value, (list, tuple)) or not all(type(one) is int for one in value):
            raise InvalidFieldError(field, value, f"it must be a list of {what}")
        if len(value) > MOST:
            raise InvalidFieldError(field, value, f"it holds {len(value)} numbers; at most {MOST}")
        if value and not (min(value) >= 0 and max(value) <= _LARGEST):
            raise InvalidFieldError(field, value, f"{what} are integers from 0 to {_LARGEST}")
        return tuple(value)

    return parse


def _flag(field: str, value: object) -> bool:
    # vLLM's servers make 0 and 1 of what a client says in ``vllm_xargs``.
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        raise InvalidFieldError(field, value, "it must be true or false, or 1 or 0")
    return bool(value)


def _width(field: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= _LARGEST:
        raise InvalidFieldError(field, value, f"it must be an integer from 1 to {_LARGEST}")
    return value


def _draft(field: str, value: object) -> tuple[int, ...]:
    if isinstance(value, str):
        remedy = "the front end makes tokens of a text, and none has read it; send token ids"
        raise InvalidFieldError(field, value, remedy)
    return _TOKENS(field, value)


_TOKENS = _numbers("token ids")
SEED_PARSERS: dict[str, Callable[[str, object], Any]] = {
    "seed_canvas": _TOKENS,
    "pinned": _numbers("output positions"),
    "read_only": _flag,
    "canvas_length": _width,
    "constrained": _flag,
    "draft": _draft,
}
"""Every field with what reads it. ``canvas_length`` is another name of ``block_length``."""


def read_seed_canvas(sent: Mapping[str, Any], mask_id: int) -> SeedCanvas | None:
    """What a request lays into its output; None where it asks for nothing.

    Args:
        sent: the client's ``diffusion_*`` fields.
        mask_id: the mask token.

    Raises:
        InvalidFieldError: a value of a wrong type, or two that contradict each other.
    """
    said = {
        name: parse(PREFIX + name, sent[PREFIX + name])
        for name, parse in SEED_PARSERS.items()
        if sent.get(PREFIX + name) is not None
    }
    tokens, pinned = said.get("seed_canvas", ()), tuple(sorted(set(said.get("pinned", ()))))
    _check_pins(tokens, pinned, mask_id)
    if draft := said.get("draft", ()):
        _check_draft(said, draft, mask_id)
        tokens = draft
    seed = SeedCanvas(
        tokens=tokens,
        pinned=pinned,
        read_only=said.get("read_only", False),
        constrained=said.get("constrained", False),
        follows=bool(draft),
    )
    return None if seed == SeedCanvas() else seed


def canvas_length(sent: Mapping[str, Any], said: Mapping[str, Any]) -> int | None:
    """The width of canvas that is asked for.

    Args:
        sent: the client's ``diffusion_*`` fields.
        said: its decode fields, without their prefix.

    Raises:
        InvalidFieldError: it is no width, or ``block_length`` says another one.
    """
    field = f"{PREFIX}canvas_length"
    if sent.get(field) is None:
        return None
    width = _width(field, sent[field])
    if said.get("block_length", width) != width:
        remedy = f"{PREFIX}block_length={said['block_length']} says the same; leave one of them out"
        raise InvalidFieldError(field, width, remedy)
    return width


def _check_draft(said: Mapping[str, Any], draft: tuple[int, ...], mask_id: int) -> None:
    for name in ("seed_canvas", "read_only"):
        if said.get(name):
            remedy = f"{DRAFT} lies where the text moves it; leave one of the two out"
            raise InvalidFieldError(PREFIX + name, said[name], remedy)
    if mask_id in draft:
        remedy = f"a draft has no holes, and {mask_id} is the mask token; leave the tokens out"
        raise InvalidFieldError(DRAFT, list(draft), remedy)


def _check_pins(tokens: tuple[int, ...], pinned: tuple[int, ...], mask_id: int) -> None:
    if not pinned:
        return
    if not tokens:
        raise InvalidFieldError(
            PINNED, list(pinned), f"{SEED} holds what is pinned, and it is not said; add it"
        )
    if pinned[-1] >= len(tokens):
        raise InvalidFieldError(
            PINNED,
            list(pinned),
            f"position {pinned[-1]} is not in {SEED}, which has {len(tokens)} tokens from "
            "position 0 on",
        )
    for position in pinned:
        if tokens[position] == mask_id:
            raise InvalidFieldError(
                PINNED,
                list(pinned),
                f"{SEED} has a hole at position {position} ({mask_id} is the mask token), so there "
                "is nothing to hold",
            )
