"""Sampling fields that vLLM's ``SamplingParams`` lacks; they travel in its ``extra_args``.

Over HTTP they stand beside vLLM's own fields. Each is checked here; ``sampling.ops`` honours it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vllm_diffusion.request.field_errors import InvalidFieldError

MOST_SIGMA = 100.0


def _sigma(field: str, value: object) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MOST_SIGMA:  # type: ignore[operator]
        raise InvalidFieldError(
            field,
            value,
            f"it must be a number of standard deviations from 0 to {MOST_SIGMA:g}; 0 is off",
        )
    return float(value)  # type: ignore[arg-type]


SAMPLING_PARSERS: dict[str, Callable[[str, object], Any]] = {"top_n_sigma": _sigma}
"""Every such field with what reads it."""


def read_sampling(extra_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those that a request says.

    Raises:
        InvalidFieldError: a value that is not usable.
    """
    if not extra_args:
        return {}
    return {
        name: parse(name, value)
        for name, parse in SAMPLING_PARSERS.items()
        if (value := extra_args.get(name)) is not None
    }
