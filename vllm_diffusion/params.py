"""The ``diffusion_*`` fields of one request, and the server's defaults for them.

The same fields are accepted in both places: per request in
``SamplingParams.extra_args`` (``vllm_xargs`` over HTTP), and server-wide,
without the prefix, in ``--additional-config '{"diffusion": {...}}'``. Each
value is checked once, here; inside, values are trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from vllm_diffusion.denoise.policies import POLICIES

PREFIX = "diffusion_"


class InvalidFieldError(ValueError):
    """A field that a user set is not usable; ``field`` and ``value`` say which."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field}={value!r} is not valid: {remedy}")
        self.field = field
        self.value = value


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


_LARGEST = 2**31 - 1


def _number(field: str, value: object) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Bounded before it is made a float: an int may be too large for one.
    if not is_number or not -_LARGEST <= value <= _LARGEST:  # type: ignore[operator]
        raise InvalidFieldError(field, value, "it must be a finite number")
    return float(value)  # type: ignore[arg-type]


def _positive_int(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise InvalidFieldError(field, value, f"it must be an integer from 1 to {_LARGEST}")
    return value


def _policy(field: str, value: object) -> str:
    if not isinstance(value, str) or value not in POLICIES:
        raise InvalidFieldError(field, value, f"it must be one of {', '.join(sorted(POLICIES))}")
    return value


def check_threshold(field: str, value: float, policy: str) -> None:
    """Refuse a threshold outside of its policy's range."""
    low, high = POLICIES[policy].threshold_range
    if not low <= value <= high:
        raise InvalidFieldError(
            field, value, f"the policy {policy!r} takes a threshold from {low} to {high}"
        )


def check_block_length(field: str, value: int, served: int, *, is_free: bool) -> None:
    """Refuse a block length that the served canvas or the family cannot hold."""
    if value == served:
        return
    if not is_free:
        raise InvalidFieldError(field, value, f"this model's block length is fixed at {served}")
    if value > served or served % value:
        raise InvalidFieldError(
            field, value, f"it must divide the served canvas, which is {served} tokens long"
        )


def read_fields(given: Mapping[str, Any], *, prefix: str) -> dict[str, Any]:
    """Parse the decode fields out of ``given``, whose keys carry ``prefix``.

    Args:
        given: a request's ``extra_args`` or the server's ``diffusion`` options.
        prefix: ``"diffusion_"`` for requests (other keys are left alone), ``""``
            for the server's options (every key must be known).

    Raises:
        InvalidFieldError: an unknown field or a value of a wrong type.
    """
    parsers = {
        "policy": _policy,
        "threshold": _number,
        "max_steps": _positive_int,
        "block_length": _positive_int,
    }
    parsed: dict[str, Any] = {}
    for key, value in given.items():
        if not key.startswith(prefix):
            continue
        name = key[len(prefix) :]
        if name not in parsers:
            known = ", ".join(prefix + known for known in parsers)
            raise InvalidFieldError(key, value, f"this field is not known; known are {known}")
        parsed[name] = parsers[name](key, value)
    return parsed


def resolve(
    defaults: DecodeParams, parsed: Mapping[str, Any], *, prefix: str, is_free: bool
) -> DecodeParams:
    """Lay ``parsed`` over ``defaults`` and check what depends on several fields.

    A request that names another policy without a threshold gets that policy's
    own default, since a bound on entropy means nothing as a confidence.
    """
    changes = dict(parsed)
    policy = changes.get("policy", defaults.policy)
    if policy != defaults.policy and "threshold" not in changes:
        changes["threshold"] = POLICIES[policy].default_threshold
    resolved = replace(defaults, **changes)
    check_threshold(prefix + "threshold", resolved.threshold, resolved.policy)
    check_block_length(
        prefix + "block_length", resolved.block_length, defaults.block_length, is_free=is_free
    )
    # One step a position is the slowest that any policy can be.
    steps = min(resolved.max_steps, resolved.block_length)
    return replace(resolved, max_steps=steps)


FIELD_NAMES = tuple(PREFIX + field.name for field in fields(DecodeParams))
