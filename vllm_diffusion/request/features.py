"""How a feature of a request is recognised: by which field it is asked for, and with what value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vllm_diffusion.denoise.policies import POLICIES
from vllm_diffusion.request.field_errors import PREFIX

if TYPE_CHECKING:
    from vllm_diffusion.family.record import FamilyRecord
    from vllm_diffusion.request.params import DecodeParams
    from vllm_diffusion.request.parsed import ParsedRequest
    from vllm_diffusion.request.seed_canvas import SeedCanvas


class Found(NamedTuple):
    """A feature that is asked for."""

    field: str
    value: object
    note: str = ""
    """What a reason says of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, as far as features are recognised by it."""

    params: Any
    """vLLM's sampling parameters."""
    parsed: ParsedRequest
    record: FamilyRecord
    mask_id: int = -1
    forced_end: frozenset[int] = frozenset()
    """Tokens with which a budget ends thoughts."""
    covers_reasoning: bool = False
    """The server's grammars begin before thoughts end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Decode fields of a request or a server, while they are resolved."""

    prefix: str
    given: Mapping[str, Any]
    """What is said."""
    resolved: DecodeParams

    def said(self, name: str) -> Found | None:
        """A field that is said, whatever it says."""
        return Found(self.prefix + name, self.given[name]) if name in self.given else None

    def of(self, name: str, nothing: object) -> Found | None:
        """A field that asks for something."""
        value = getattr(self.resolved, name)
        return None if value == nothing else Found(self.prefix + name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """A chat or a response whose text may be calls, as its body says it."""

    names: Sequence[str]
    """Of the functions."""
    choice: str | None
    """Which of them must be called; None and ``auto`` leave it to the model."""
    words: str | None
    """The first field that asks something of the words."""
    form: str | None
    """The field that asks for a form of the text."""


Feature = Callable[[Any], Found | None]

NEUTRAL: dict[str, object] = {
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "min_tokens": 0,
    "ignore_eos": False,
}
"""Values of sampling parameters that ask for nothing, where None does not."""


def is_said(value: object) -> bool:
    """Does the value ask for something: an empty list or dict does not, 0 does."""
    return value is not None and not (isinstance(value, (list, dict)) and not value)


def _sampling(name: str, asked: Asked) -> Found | None:
    """A field of vLLM's sampling parameters."""
    value = getattr(asked.params, name)
    is_asked = is_said(value) and (name not in NEUTRAL or value != NEUTRAL[name])
    return Found(name, value) if is_asked else None


def _sent(name: str) -> Feature:
    """A decode field, whatever it says."""
    field = PREFIX + name

    def found(asked: Asked) -> Found | None:
        sent = asked.parsed.sent
        return Found(field, sent[field]) if field in sent else None

    return found


def _form(asked: Asked) -> Found | None:
    form = asked.params.structured_outputs
    has_form = form is not None and not form.all_constraints_none()
    return Found("structured output", form) if has_form else None


def _other_form(asked: Asked) -> Found | None:
    form = asked.params.structured_outputs
    return None if form is None else Found("structured_outputs", form)


def _words(asked: Asked) -> Found | None:
    parsed = asked.parsed
    return None if parsed.lexical is None else Found(parsed.lexical_field, None)


def _stop_too_early(asked: Asked) -> Found | None:
    lexical, stop = asked.parsed.lexical, asked.params.stop
    needs_more = lexical is not None and (lexical.keywords or lexical.min_chars)
    return Found("stop", stop) if needs_more and stop else None


def _speculation(asked: Asked) -> Found | None:
    policy = asked.parsed.decode.policy
    return Found(f"{PREFIX}policy", policy) if policy == "self_speculation" else None


def _unread_prompt(asked: Asked) -> Found | None:
    """Of it there are no predictions of next tokens."""
    is_read = asked.record.mask_group.has_causal_context
    return None if is_read else Found("mask_group", asked.record.title)


def _end_not_allowed(asked: Asked) -> Found | None:
    allowed = asked.params.allowed_token_ids
    missing = sorted(asked.forced_end - set(allowed)) if allowed else []
    return Found("allowed_token_ids", allowed, str(missing)) if missing else None


def _end_forbidden(asked: Asked) -> Found | None:
    words = asked.params.bad_words_token_ids or ()
    is_hit = any(asked.forced_end & set(word) for word in words)
    return Found("bad_words", asked.params.bad_words) if is_hit else None


def _laid(name: str, is_asked: Callable[[SeedCanvas], object]) -> Feature:
    """Something of what is laid into the output."""

    def found(asked: Asked) -> Found | None:
        seed = asked.parsed.seed
        if seed is None or not is_asked(seed):
            return None
        return Found(PREFIX + name, asked.parsed.sent.get(PREFIX + name))

    return found


def _drafted(asked: Asked) -> Found | None:
    """Tokens are laid that are not held."""
    seed = asked.parsed.seed
    if seed is None or not seed.has_drafts(asked.mask_id):
        return None
    return Found(PREFIX + ("draft" if seed.follows else "seed_canvas"), list(seed.tokens))


def _must_call(calls: Calls) -> bool:
    return calls.choice not in (None, "auto")


def _drafts(fields: Decoding) -> Found | None:
    policy = fields.resolved.policy
    return Found(f"{fields.prefix}policy", policy) if policy == "self_speculation" else None


def _clock(fields: Decoding) -> Found | None:
    policy = fields.resolved.policy
    is_clocked = POLICIES[policy].schedule != "even"
    return Found(f"{fields.prefix}policy", policy) if is_clocked else None


def _sub_blocks(fields: Decoding) -> Found | None:
    """The remedy is a length, of one piece."""
    block = fields.resolved.block_length
    is_cut = fields.resolved.sub_block_length < block
    return Found(f"{fields.prefix}sub_block_length", block) if is_cut else None


EDITS = ("edit_threshold", "preset", "max_post_steps")
FEATURES: dict[str, Feature] = {
    "form": _form,
    "another form": _other_form,
    "form of thoughts": lambda asked: _other_form(asked) if asked.covers_reasoning else None,
    "words": _words,
    "stop too early": _stop_too_early,
    "speculation": _speculation,
    "unread prompt": _unread_prompt,
    "end not allowed": _end_not_allowed,
    "end forbidden": _end_forbidden,
    **{f"sent {name}": _sent(name) for name in EDITS},
    "seed canvas": _laid("seed_canvas", lambda seed: seed.tokens and not seed.follows),
    "draft": _laid("draft", lambda seed: seed.follows),
    "drafted canvas": _drafted,
    "read-only canvas": _laid("read_only", lambda seed: seed.read_only),
    "constrained canvas": _laid("constrained", lambda seed: seed.constrained),
    # Of bodies with functions.
    "words of answer": lambda calls: Found(calls.words, None) if calls.words else None,
    "form of answer": lambda calls: Found(calls.form, None) if calls.form else None,
    "calls": lambda calls: Found("tools", calls.names),
    "calls by choice": lambda calls: None if _must_call(calls) else Found("tools", calls.names),
    "a call": lambda calls: Found("tool_choice", calls.choice) if _must_call(calls) else None,
    # Of decode fields, while they are resolved.
    "effort": lambda fields: fields.said("effort"),
    "preset": lambda fields: fields.said("preset"),
    "drafts": _drafts,
    "clock": _clock,
    "sub-blocks": _sub_blocks,
    "guidance": lambda fields: fields.of("guidance_scale", 0.0),
    "approximate cache": lambda fields: fields.of("kv_cache", "exact"),
}
"""Beside them each field of vLLM's sampling parameters is a feature."""


def found(feature: str, asked: Asked | Calls | Decoding) -> Found | None:
    """The feature, where it is asked for."""
    recognise = FEATURES.get(feature)
    return _sampling(feature, asked) if recognise is None else recognise(asked)  # type: ignore[arg-type]
