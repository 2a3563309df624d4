"""A request's own fields, parsed once in the front end, and what the engine is told of them.

Until the engine takes the request, ``extra_args`` holds the object itself under ``PARSED``; from
then on it holds the packed form, which any serializer takes, and none of the client's fields. The
scheduler and the worker unpack it. A request that reaches them without it asks for nothing, or has
not met this package's front end: then its decode fields are parsed there, and a form of its text is
refused, since only the front end compiles one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vllm_diffusion.request.field_errors import PREFIX, InvalidFieldError
from vllm_diffusion.request.lexical import LEXICAL_PARSERS, LexicalConstraints, read_lexical
from vllm_diffusion.request.params import DecodeParams, check_block_length, read_fields
from vllm_diffusion.request.plan import DecodePlan
from vllm_diffusion.request.sampling import read_sampling
from vllm_diffusion.request.seed_canvas import (
    SEED_PARSERS,
    SeedCanvas,
    canvas_length,
    read_seed_canvas,
)

PARSED = "_diffusion"
"""The key of ``extra_args``."""
VERSION = 4
"""Of the packed form; raised when its items change."""
ELSEWHERE = "vllm_diffusion's front end"
NOT_PASSED = (
    "and this request has not passed through one; send it to a server or an LLM() where the plugin "
    "is loaded"
)
_DECODE = tuple(each.name for each in dataclasses.fields(DecodeParams))


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """What one request asks for beside vLLM's sampling parameters."""

    decode: DecodeParams
    compiled: dict[str, Any] | None = None
    """What the text is held to, compiled and packed (``structured.compiled``)."""
    reasoning_ended: bool = False
    """What is held to the constraint starts with the output, whatever the prompt says."""
    watcher: int = 0
    """Who gets the request's frames, a number of the front end's; 0 for nobody."""
    seed: SeedCanvas | None = None
    """What is laid into the output before it is decoded."""

    # The rest does not travel: the front end alone asks for it.
    sent: Mapping[str, Any] = field(default_factory=dict)
    """The client's ``diffusion_*`` fields as they were sent, for messages."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Its decode fields without their prefix, each checked."""
    lexical: LexicalConstraints | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> ParsedRequest:
        """vLLM copies a request's parameters; nothing of this one is ever changed."""
        return self

    @property
    def lexical_field(self) -> str:
        """The field that a message about the request's words names."""
        return next(PREFIX + name for name in LEXICAL_PARSERS if PREFIX + name in self.sent)

    def is_followed(self, params: Any) -> bool:
        """Is the text followed token by token (``structured.frontier``)?"""
        return self.compiled is not None or params.thinking_token_budget is not None

    def with_effort(self, level: str, plan: DecodePlan) -> ParsedRequest:
        """The same request, with a level of effort that it has not said itself."""
        fields = {**self.fields, "effort": level}
        return replace(self, fields=fields, decode=plan.resolved(fields))

    def pack(self, plan: DecodePlan) -> list[Any] | None:
        """As values that any serializer takes; None of a request that asks for nothing."""
        is_default = self.decode is plan.defaults or self.decode == plan.defaults
        seed = None if self.seed is None else self.seed.pack()
        if is_default and self.compiled is None and not self.watcher and seed is None:
            return None
        decode = None if is_default else [getattr(self.decode, name) for name in _DECODE]
        return [VERSION, decode, self.compiled, self.reasoning_ended, self.watcher, seed]


def parse(extra_args: Mapping[str, Any] | None, plan: DecodePlan) -> ParsedRequest:
    """Read and check a client's fields, each once.

    Raises:
        InvalidFieldError: one is unknown, not usable, or contradicts another.
    """
    read_sampling(extra_args)  # checked here; ``sampling`` honours it where vLLM's own fields are
    sent = {key: value for key, value in (extra_args or {}).items() if key.startswith(PREFIX)}
    if not sent:
        return ParsedRequest(decode=plan.defaults)
    fields = read_fields(sent, prefix=PREFIX, beside=(*LEXICAL_PARSERS, *SEED_PARSERS))
    if (width := canvas_length(sent, fields)) is not None:
        served = plan.defaults.block_length
        check_block_length(f"{PREFIX}canvas_length", width, served, plan.record)
        fields["block_length"] = width
    return ParsedRequest(
        decode=plan.resolved(fields),
        seed=read_seed_canvas(sent, plan.mask_id),
        sent=sent,
        fields=fields,
        lexical=read_lexical(sent),
    )


def received(params: Any, plan: DecodePlan) -> ParsedRequest:
    """The request as an engine process gets it.

    Args:
        params: vLLM's sampling parameters.
        plan: of the server.

    Raises:
        ValueError: the front end is of another version; or there was none of ours, and the
            request needs one.
    """
    packed = (params.extra_args or {}).get(PARSED)
    if packed is not None:
        return _unpacked(packed, plan)
    parsed = parse(params.extra_args, plan)
    if parsed.seed is not None and (parsed.seed.read_only or parsed.seed.constrained):
        name = PREFIX + ("read_only" if parsed.seed.read_only else "constrained")
        raise InvalidFieldError(name, parsed.sent[name], f"{ELSEWHERE} reads it, {NOT_PASSED}")
    asked = params.structured_outputs
    if parsed.lexical is not None or (asked is not None and not asked.all_constraints_none()):
        name = "structured_outputs" if parsed.lexical is None else parsed.lexical_field
        value = asked if parsed.lexical is None else parsed.sent[name]
        raise InvalidFieldError(name, value, f"{ELSEWHERE} compiles it, {NOT_PASSED}")
    return parsed


def _unpacked(packed: Any, plan: DecodePlan) -> ParsedRequest:
    if not isinstance(packed, (list, tuple)) or len(packed) != 6 or packed[0] != VERSION:
        raise ValueError(
            f"extra_args[{PARSED!r}] is not what this version of vllm_diffusion packs; run the "
            "same version in front end and engine, and leave the key to it"
        )
    _, decode, compiled, reasoning_ended, watcher, seed = packed
    return ParsedRequest(
        decode=plan.defaults if decode is None else _decode(decode),
        compiled=compiled,
        reasoning_ended=reasoning_ended,
        watcher=watcher,
        seed=SeedCanvas.unpack(seed),
    )


def _decode(values: Any) -> DecodeParams:
    return DecodeParams(**dict(zip(_DECODE, values, strict=True)))
