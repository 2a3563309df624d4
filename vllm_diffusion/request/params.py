"""The ``diffusion_*`` fields of one request, and the server's defaults for them.

The same fields are accepted in both places: per request in
``SamplingParams.extra_args`` (``vllm_xargs`` over HTTP), and server-wide,
without the prefix, in ``--additional-config '{"diffusion": {...}}'``. Each
value is checked once, here; inside, values are trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vllm_diffusion.denoise.policies import POLICIES
from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.request.conflicts import conflict
from vllm_diffusion.request.effort import LEVELS, PRESETS, effort_fields
from vllm_diffusion.request.features import Decoding
from vllm_diffusion.request.field_errors import PREFIX, InvalidFieldError
from vllm_diffusion.request.quote import close_to

__all__ = [
    "PREFIX",
    "DecodeParams",
    "InvalidFieldError",
    "read_fields",
    "resolve",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeParams:
    """How hard one request is refined."""

    policy: str
    """Which positions a denoising step accepts; a key of ``POLICIES``."""
    threshold: float
    """The policy's bound; its meaning and range are the policy's own."""
    max_steps: int
    """Most denoising steps of one block."""
    block_length: int
    """Length of a block; the canvas of the request."""
    sub_block_length: int
    """Length of the pieces in which a block is denoised; the block's own for one piece."""
    edit_threshold: float = 1.0
    """Accepted tokens are replaced by candidates more probable than this; 1 never edits."""
    max_post_steps: int = 16
    """Most steps of a block, after its last mask is gone, that edit it."""
    kv_cache: str = "exact"
    """Which K and V a full-attention model reuses within a block; one of ``KV_CACHES``."""
    guidance_scale: float = 0.0
    """Classifier-free guidance: 0 for none, w in ``l_u + (w + 1) (l_c - l_u)``."""

    @property
    def edits(self) -> bool:
        """No probability is above 1, so that a threshold of 1 turns editing off."""
        return self.edit_threshold < 1


KV_CACHES = ("exact", "prefix", "dual")
"""``exact`` none; ``prefix`` what is before the block; ``dual`` all outside of it.

The last two are Fast-dLLM's (arXiv 2505.22618), and approximate.
"""

_LARGEST = 2**31 - 1


def _number(field: str, value: object) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Bounded before it is made a float: an int may be too large for one.
    if not is_number or not -_LARGEST <= value <= _LARGEST:  # type: ignore[operator]
        raise InvalidFieldError(field, value, "it must be a finite number")
    return float(value)  # type: ignore[arg-type]


def _share(field: str, value: object) -> float:
    number = _number(field, value)
    if not 0 <= number <= 1:
        raise InvalidFieldError(field, value, "it must be a number from 0 to 1")
    return number


def _scale(field: str, value: object) -> float:
    number = _number(field, value)
    if not 0 <= number <= 100:
        raise InvalidFieldError(field, value, "it must be a number from 0 to 100")
    return number


def _int_from(lowest: int) -> Callable[[str, object], int]:
    def parse(field: str, value: object) -> int:
        is_int = isinstance(value, int) and not isinstance(value, bool)
        if not is_int or not lowest <= value <= _LARGEST:  # type: ignore[operator]
            raise InvalidFieldError(
                field, value, f"it must be an integer from {lowest} to {_LARGEST}"
            )
        return value  # type: ignore[return-value]

    return parse


def _one_of(*names: str) -> Callable[[str, object], str]:
    def parse(field: str, value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise InvalidFieldError(field, value, f"it must be one of {', '.join(names)}")
        return value

    return parse


PARSERS: dict[str, Callable[[str, object], Any]] = {
    "policy": _one_of(*sorted(POLICIES)),
    "threshold": _number,
    "max_steps": _int_from(1),
    "block_length": _int_from(1),
    "sub_block_length": _int_from(1),
    "preset": _one_of(*PRESETS),
    "edit_threshold": _share,
    "max_post_steps": _int_from(0),
    "kv_cache": _one_of(*KV_CACHES),
    "guidance_scale": _scale,
    "effort": _one_of(*LEVELS),
}
"""Every decode field with what reads it."""


def check_applies(field: str, name: str, value: object, record: FamilyRecord) -> None:
    """Refuse a field that means nothing for the family."""
    reasons = {
        "sub_block_length": (record.sub_block_length is None, "is denoised in whole blocks"),
        "preset": (not record.has_edits, "does not edit accepted tokens"),
        "edit_threshold": (not record.has_edits, "does not edit accepted tokens"),
        "max_post_steps": (not record.has_edits, "does not edit accepted tokens"),
        "guidance_scale": (not record.has_guidance, "has no unconditional mode to guide it by"),
        "kv_cache": (not record.mask_group.recomputes, "has an exact cache, which is always used"),
    }
    is_void, why = reasons.get(name, (False, ""))
    if is_void:
        raise InvalidFieldError(field, value, f"{record.title} {why}; leave the field out")


def check_policy(field: str, value: str, record: FamilyRecord) -> None:
    """Refuse a policy that the family's weights are not made for."""
    if value == "self_speculation" and not record.self_speculates:
        raise InvalidFieldError(
            field, value, f"{record.title} has no causal mode that could verify a draft"
        )


def check_threshold(field: str, value: float, policy: str) -> None:
    """Refuse a threshold outside of its policy's range."""
    low, high = POLICIES[policy].threshold_range
    if not low <= value <= high:
        raise InvalidFieldError(
            field, value, f"the policy {policy!r} takes a threshold from {low} to {high}"
        )


def check_block_length(field: str, value: int, served: int, record: FamilyRecord) -> None:
    """Refuse a block length that the served canvas or the family cannot hold."""
    if value == served:
        return
    if not record.block_length_is_free:
        raise InvalidFieldError(field, value, f"this model's block length is fixed at {served}")
    if value > served:
        raise InvalidFieldError(field, value, f"the served canvas is {served} tokens long")
    # KV pages hold whole served blocks, and so whole blocks of their divisors.
    if record.mask_group.is_aligned and served % value:
        raise InvalidFieldError(
            field, value, f"it must divide the served canvas, which is {served} tokens long"
        )


def read_fields(
    given: Mapping[str, Any], *, prefix: str, beside: Collection[str] = ()
) -> dict[str, Any]:
    """Parse the decode fields out of ``given``, whose keys carry ``prefix``.

    Args:
        given: a request's ``extra_args`` or the server's ``diffusion`` options.
        prefix: ``"diffusion_"`` for requests (other keys are left alone), ``""``
            for the server's options (every key must be known).
        beside: fields that are read elsewhere.

    Raises:
        InvalidFieldError: an unknown field or a value of a wrong type.
    """
    parsed: dict[str, Any] = {}
    for key, value in given.items():
        if not key.startswith(prefix):
            continue
        name = key[len(prefix) :]
        if name in beside:
            continue
        if name not in PARSERS:
            names = [*PARSERS, *beside]
            known = ", ".join(prefix + known for known in names)
            close = close_to(name, names)
            meant = f"; did you mean {prefix}{close}?" if close else ""
            raise InvalidFieldError(
                key, value, f"this field is not known; known are {known}{meant}"
            )
        parsed[name] = PARSERS[name](key, value)
    return parsed


def _check_pairs(decoding: Decoding, *features: str) -> None:
    """Refuse fields that exclude each other."""
    if (refusal := conflict(decoding, *features)) is not None:
        raise InvalidFieldError(refusal.field, refusal.value, refusal.reason)


def _of_effort(
    defaults: DecodeParams, changes: Mapping[str, Any], level: str, prefix: str
) -> dict[str, Any]:
    """The fields that a level of effort stands for, beside those that are said."""
    policy = changes.get("policy", defaults.policy)
    said = replace(defaults, policy=policy)
    _check_pairs(
        Decoding(prefix=prefix, given={**changes, "effort": level}, resolved=said), "effort"
    )
    is_same = policy == defaults.policy
    return effort_fields(
        level,
        policy=policy,
        threshold=defaults.threshold if is_same else POLICIES[policy].default_threshold,
        max_steps=defaults.max_steps,
        block_length=changes.get("block_length", defaults.block_length),
        edits=defaults.edits,
    )


def resolve(
    defaults: DecodeParams, parsed: Mapping[str, Any], *, prefix: str, record: FamilyRecord
) -> DecodeParams:
    """Lay ``parsed`` over ``defaults`` and check what depends on several fields.

    A request that names another policy without a threshold gets that policy's
    own default, since a bound on entropy means nothing as a confidence. A
    preset stands for its fields, and so does an effort; those that are said
    beside it win.
    """
    for name, value in parsed.items():
        check_applies(prefix + name, name, value, record)
    changes = dict(parsed)
    level = changes.pop("effort", None)
    if level is not None:
        changes = _of_effort(defaults, changes, level, prefix) | changes
    preset = PRESETS.get(changes.pop("preset", ""), {})
    if preset:
        policy = changes.setdefault("policy", "confidence")
        of_policy = {"threshold"} if policy != "confidence" else set()
        changes = {k: v for k, v in preset.items() if k not in of_policy} | changes
    policy = changes.get("policy", defaults.policy)
    check_policy(prefix + "policy", policy, record)
    if policy != defaults.policy and "threshold" not in changes:
        changes["threshold"] = POLICIES[policy].default_threshold
    if "block_length" in changes:
        # A shorter block is one piece, as far as the default pieces do not fit.
        changes.setdefault(
            "sub_block_length", min(defaults.sub_block_length, changes["block_length"])
        )
    resolved = replace(defaults, **changes)
    check_threshold(prefix + "threshold", resolved.threshold, resolved.policy)
    check_block_length(
        prefix + "block_length",
        resolved.block_length,
        defaults.block_length,
        record,
    )
    if resolved.block_length % resolved.sub_block_length:
        raise InvalidFieldError(
            prefix + "sub_block_length",
            resolved.sub_block_length,
            f"it must divide the block, which is {resolved.block_length} tokens long",
        )
    decoding = Decoding(prefix=prefix, given=changes, resolved=resolved)
    _check_pairs(decoding, "clock", "guidance")
    # One step a position is the slowest that any policy can be.
    steps = min(resolved.max_steps, resolved.block_length)
    return replace(resolved, max_steps=steps)


FIELD_NAMES = tuple(PREFIX + name for name in PARSERS)
