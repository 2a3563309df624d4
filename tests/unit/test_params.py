"""The ``diffusion_*`` fields: each value is taken as it is or refused by name."""

from __future__ import annotations

import math
from typing import Any

import pytest

from vllm_diffusion.denoise.policies import POLICIES
from vllm_diffusion.params import (
    FIELD_NAMES,
    PREFIX,
    DecodeParams,
    InvalidFieldError,
    read_fields,
    resolve,
)

DEFAULTS = DecodeParams(policy="confidence", threshold=0.9, max_steps=16, block_length=16)


def request(is_free: bool = True, **given: Any) -> DecodeParams:
    """What a request with these fields, prefix left out, is decoded with."""
    prefixed = {PREFIX + name: value for name, value in given.items()}
    return resolve(DEFAULTS, read_fields(prefixed, prefix=PREFIX), prefix=PREFIX, is_free=is_free)


def test_field_names_are_frozen() -> None:
    assert FIELD_NAMES == (
        "diffusion_policy",
        "diffusion_threshold",
        "diffusion_max_steps",
        "diffusion_block_length",
    )


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("threshold", math.nan, "finite number"),
        ("threshold", math.inf, "finite number"),
        ("threshold", -math.inf, "finite number"),
        ("threshold", "high", "finite number"),
        ("threshold", "0.5", "finite number"),
        ("threshold", True, "finite number"),
        ("threshold", None, "finite number"),
        ("threshold", [0.5], "finite number"),
        ("threshold", 10**400, "finite number"),
        ("threshold", -0.1, "from 0.0 to 1.0"),
        ("threshold", 1.1, "from 0.0 to 1.0"),
        ("max_steps", 0, "integer from 1"),
        ("max_steps", -3, "integer from 1"),
        ("max_steps", 2.5, "integer from 1"),
        ("max_steps", 4.0, "integer from 1"),
        ("max_steps", "4", "integer from 1"),
        ("max_steps", True, "integer from 1"),
        ("max_steps", None, "integer from 1"),
        ("max_steps", math.nan, "integer from 1"),
        ("max_steps", 2**31, "integer from 1"),
        ("block_length", 0, "integer from 1"),
        ("block_length", -16, "integer from 1"),
        ("block_length", True, "integer from 1"),
        ("block_length", 8.0, "integer from 1"),
        ("block_length", 3, "must divide the served canvas, which is 16"),
        ("block_length", 12, "must divide the served canvas, which is 16"),
        ("block_length", 32, "must divide the served canvas, which is 16"),
        ("block_length", 2**62, ""),
        ("policy", "greedy", "one of confidence, entropy, margin, static"),
        ("policy", "Confidence", "one of"),
        ("policy", 1, "one of"),
        ("policy", None, "one of"),
        ("policy", ["confidence"], "one of"),
    ],
)
def test_an_unusable_value_is_refused_by_name(field: str, value: object, remedy: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        request(**{field: value})
    error = caught.value
    assert error.field == PREFIX + field
    assert error.value is value or error.value == value
    assert str(error).startswith(f"{PREFIX}{field}={value!r} is not valid: ")
    assert remedy in str(error)


@pytest.mark.parametrize(
    ("policy", "threshold", "is_valid"),
    [
        ("confidence", 0, True),
        ("confidence", 1, True),
        ("confidence", 1.001, False),
        ("margin", 0.0, True),
        ("margin", 1.0, True),
        ("margin", -1e-9, False),
        ("entropy", 5, True),
        ("entropy", 1000, True),
        ("entropy", 1000.5, False),
        ("entropy", -0.1, False),
        ("static", 0, True),
        ("static", 2, False),
    ],
)
def test_the_range_of_a_threshold_is_its_policys(
    policy: str, threshold: float, is_valid: bool
) -> None:
    if is_valid:
        assert request(policy=policy, threshold=threshold).threshold == threshold
    else:
        with pytest.raises(InvalidFieldError, match=f"the policy '{policy}' takes a threshold"):
            request(policy=policy, threshold=threshold)


@pytest.mark.parametrize("name", ["foo", "thresholds", "", "Threshold", "max_denoising_steps"])
def test_an_unknown_field_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(
        InvalidFieldError, match="not known; known are diffusion_policy, "
    ) as caught:
        request(**{name: 1})
    assert caught.value.field == PREFIX + name


def test_other_peoples_fields_are_left_alone() -> None:
    given = {"kv_transfer_params": 1, "Diffusion_policy": 2, "diffusion_threshold": 0.5}
    assert read_fields(given, prefix=PREFIX) == {"threshold": 0.5}


def test_the_servers_options_carry_no_prefix() -> None:
    assert read_fields({"threshold": 1, "max_steps": 3}, prefix="") == {
        "threshold": 1.0,
        "max_steps": 3,
    }
    with pytest.raises(InvalidFieldError, match="known are policy, threshold") as caught:
        read_fields({"diffusion_threshold": 0.5}, prefix="")
    assert caught.value.field == "diffusion_threshold"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("confidence", 0.9, 16, 16)),
        ({"threshold": 0.5}, ("confidence", 0.5, 16, 16)),
        ({"policy": "confidence"}, ("confidence", 0.9, 16, 16)),
        # A bound on one policy's measure means nothing to another policy.
        ({"policy": "entropy"}, ("entropy", POLICIES["entropy"].default_threshold, 16, 16)),
        ({"policy": "margin", "threshold": 0.4}, ("margin", 0.4, 16, 16)),
        ({"max_steps": 4}, ("confidence", 0.9, 4, 16)),
        ({"block_length": 8}, ("confidence", 0.9, 8, 8)),
        ({"block_length": 1}, ("confidence", 0.9, 1, 1)),
        ({"block_length": 8, "max_steps": 2}, ("confidence", 0.9, 2, 8)),
        ({"block_length": 16}, ("confidence", 0.9, 16, 16)),
    ],
)
def test_what_is_not_said_stays(given: dict[str, Any], expected: tuple[Any, ...]) -> None:
    resolved = request(**given)
    assert (
        resolved.policy,
        resolved.threshold,
        resolved.max_steps,
        resolved.block_length,
    ) == expected


def test_a_fixed_block_length_may_be_repeated_but_not_changed() -> None:
    assert request(is_free=False, block_length=16) == DEFAULTS
    with pytest.raises(InvalidFieldError, match="this model's block length is fixed at 16"):
        request(is_free=False, block_length=8)
