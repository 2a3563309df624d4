"""The ``diffusion_*`` fields: each value is taken as it is or refused by name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from vllm_diffusion.denoise.policies import POLICIES
from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.family.rows import FAMILIES, LLADA, LLADA2, SDAR
from vllm_diffusion.request.params import (
    FIELD_NAMES,
    KV_CACHES,
    PREFIX,
    PRESETS,
    DecodeParams,
    InvalidFieldError,
    read_fields,
    resolve,
)

DEFAULTS = DecodeParams(
    policy="confidence", threshold=0.9, max_steps=16, block_length=16, sub_block_length=16
)
# Takes every field, as no family does, so that each value meets its own check.
EVERYTHING = replace(
    LLADA,
    architecture="X",
    title="Everything",
    block_lengths=(4, 64),
    sub_block_length=8,
    has_edits=True,
    self_speculates=True,
)


def request(
    record: FamilyRecord = EVERYTHING, defaults: DecodeParams = DEFAULTS, **given: Any
) -> DecodeParams:
    """What a request with these fields, prefix left out, is decoded with."""
    prefixed = {PREFIX + name: value for name, value in given.items()}
    parsed = read_fields(prefixed, prefix=PREFIX)
    return resolve(defaults, parsed, prefix=PREFIX, record=record)


def test_field_names_are_frozen() -> None:
    assert FIELD_NAMES == (
        "diffusion_policy",
        "diffusion_threshold",
        "diffusion_max_steps",
        "diffusion_block_length",
        "diffusion_sub_block_length",
        "diffusion_preset",
        "diffusion_edit_threshold",
        "diffusion_max_post_steps",
        "diffusion_kv_cache",
        "diffusion_guidance_scale",
        "diffusion_effort",
    )


def test_values_by_name_are_frozen() -> None:
    assert KV_CACHES == ("exact", "prefix", "dual")
    assert PRESETS == {
        "quality": {"threshold": 0.7, "edit_threshold": 0.5, "max_post_steps": 16},
        "speed": {"threshold": 0.5, "edit_threshold": 0.0, "max_post_steps": 16},
    }


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("threshold", math.nan, "finite number"),
        ("threshold", math.inf, "finite number"),
        ("threshold", -math.inf, "finite number"),
        ("threshold", "high", "finite number"),
        ("threshold", True, "finite number"),
        ("threshold", None, "finite number"),
        ("threshold", 10**400, "finite number"),
        ("threshold", -0.1, "from 0.0 to 1.0"),
        ("threshold", 1.1, "from 0.0 to 1.0"),
        ("max_steps", 0, "integer from 1"),
        ("max_steps", 2.5, "integer from 1"),
        ("max_steps", "4", "integer from 1"),
        ("max_steps", True, "integer from 1"),
        ("max_steps", None, "integer from 1"),
        ("max_steps", 2**31, "integer from 1"),
        ("block_length", 0, "integer from 1"),
        ("block_length", True, "integer from 1"),
        ("block_length", 17, "the served canvas is 16 tokens long"),
        ("block_length", 32, "the served canvas is 16 tokens long"),
        ("block_length", 2**62, "integer from 1"),
        ("sub_block_length", 0, "integer from 1"),
        ("sub_block_length", True, "integer from 1"),
        ("sub_block_length", 3, "must divide the block, which is 16"),
        ("sub_block_length", 32, "must divide the block, which is 16"),
        ("preset", "fast", "one of quality, speed"),
        ("preset", None, "one of quality, speed"),
        ("preset", {"threshold": 0.5}, "one of quality, speed"),
        ("edit_threshold", -0.1, "from 0 to 1"),
        ("edit_threshold", 1.5, "from 0 to 1"),
        ("edit_threshold", math.nan, "finite number"),
        ("edit_threshold", math.inf, "finite number"),
        ("edit_threshold", False, "finite number"),
        ("edit_threshold", None, "finite number"),
        ("max_post_steps", -1, "integer from 0"),
        ("max_post_steps", 1.0, "integer from 0"),
        ("max_post_steps", False, "integer from 0"),
        ("max_post_steps", 2**31, "integer from 0"),
        ("guidance_scale", -0.5, "from 0 to 100"),
        ("guidance_scale", 100.5, "from 0 to 100"),
        ("guidance_scale", math.inf, "finite number"),
        ("guidance_scale", True, "finite number"),
        ("kv_cache", "none", "one of exact, prefix, dual"),
        ("kv_cache", True, "one of exact, prefix, dual"),
        ("kv_cache", "DUAL", "one of exact, prefix, dual"),
        (
            "policy",
            "greedy",
            "one of confidence, entropy, margin, maskgit_plus, origin, self_speculation, "
            "static, topk_entropy, topk_margin",
        ),
        ("policy", "Confidence", "one of"),
        ("policy", 1, "one of"),
        ("policy", ["confidence"], "one of"),
    ],
)
def test_an_unusable_value_is_refused_by_name(field: str, value: object, remedy: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        request(**{field: value})
    error = caught.value
    assert error.field == PREFIX + field
    assert error.value is value or error.value == value
    assert str(error).startswith(f"{PREFIX}{field}={value!r} is not valid: "[:200])
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
        ("origin", 0.5, True),
        ("topk_entropy", 1, True),
        ("topk_entropy", 2, False),
        ("topk_margin", -1, False),
        ("maskgit_plus", 1.5, False),
        ("self_speculation", 7, False),
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_post_steps", 0),
        ("max_post_steps", 2**31 - 1),
        ("edit_threshold", 0),
        ("edit_threshold", 1),
        ("edit_threshold", 0.25),
        ("kv_cache", "exact"),
        ("kv_cache", "prefix"),
        ("kv_cache", "dual"),
        ("guidance_scale", 0),
        ("guidance_scale", 100),
        ("sub_block_length", 1),
        ("sub_block_length", 4),
        ("sub_block_length", 16),
        ("threshold", 0),
        ("policy", "origin"),
    ],
)
def test_a_usable_value_is_taken_as_it_is(field: str, value: object) -> None:
    assert getattr(request(**{field: value}), field) == value


def test_a_fixed_block_length_may_be_repeated_but_not_changed() -> None:
    fixed = replace(EVERYTHING, block_length_is_free=False)
    assert request(fixed, block_length=16) == DEFAULTS
    for other in (8, 32):
        with pytest.raises(InvalidFieldError, match="this model's block length is fixed at 16"):
            request(fixed, block_length=other)


@pytest.mark.parametrize("length", [3, 12])
def test_a_block_on_shared_pages_divides_the_canvas(length: int) -> None:
    """Where K and V are of whole blocks; with full attention nothing is final anyway."""
    with pytest.raises(InvalidFieldError, match="must divide the served canvas, which is 16"):
        request(SDAR, block_length=length)
    assert request(LLADA, block_length=length).block_length == length


VOID = {
    "sub_block_length": (8, "is denoised in whole blocks"),
    "preset": ("quality", "does not edit accepted tokens"),
    "edit_threshold": (0.5, "does not edit accepted tokens"),
    "max_post_steps": (4, "does not edit accepted tokens"),
    "kv_cache": ("exact", "has an exact cache"),
    "guidance_scale": (0.5, "no unconditional mode"),
}
GUIDED = ("LLaDAModelLM", "ILLaDAForCausalLM", "LLaDAMoEModelLM")
TAKES = {
    **{name: ("kv_cache",) for name, record in FAMILIES.items() if record.mask_group.recomputes},
    **dict.fromkeys(GUIDED, ("kv_cache", "guidance_scale")),
    "LLaDA2MoeModelLM": ("preset", "edit_threshold", "max_post_steps"),
    "Fast_dLLM_QwenForCausalLM": ("sub_block_length",),
}


@pytest.mark.parametrize("field", VOID)
@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_field_without_a_meaning_for_the_family_is_refused(architecture: str, field: str) -> None:
    """By its name, the family's and the reason; even where it says what happens anyway."""
    record = FAMILIES[architecture]
    value, why = VOID[field]
    if field in TAKES.get(architecture, ()):
        resolved = request(record, **{field: value})
        assert field == "preset" or getattr(resolved, field) == value
        return
    with pytest.raises(InvalidFieldError, match=why) as caught:
        request(record, **{field: value})
    assert caught.value.field == PREFIX + field
    assert record.title in str(caught.value)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_only_a_causal_mode_can_verify(architecture: str) -> None:
    record = FAMILIES[architecture]
    if architecture == "NemotronLabsDiffusionModel":
        assert request(record, policy="self_speculation").policy == "self_speculation"
        return
    with pytest.raises(InvalidFieldError, match="no causal mode that could verify") as caught:
        request(record, policy="self_speculation")
    assert caught.value.field == "diffusion_policy"
    assert record.title in str(caught.value)


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "self_speculation"])
def test_all_other_policies_are_for_all(architecture: str, policy: str) -> None:
    resolved = request(FAMILIES[architecture], policy=policy)
    assert resolved.policy == policy
    if policy != DEFAULTS.policy:
        assert resolved.threshold == POLICIES[policy].default_threshold


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"preset": "quality"}, ("confidence", 0.7, 0.5, 16)),
        ({"preset": "speed"}, ("confidence", 0.5, 0.0, 16)),
        # What is said beside a preset wins, whatever the order.
        ({"preset": "speed", "threshold": 0.6}, ("confidence", 0.6, 0.0, 16)),
        ({"threshold": 0.6, "preset": "speed"}, ("confidence", 0.6, 0.0, 16)),
        ({"preset": "quality", "edit_threshold": 0}, ("confidence", 0.7, 0.0, 16)),
        ({"preset": "quality", "edit_threshold": 1}, ("confidence", 0.7, 1.0, 16)),
        ({"preset": "speed", "max_post_steps": 0}, ("confidence", 0.5, 0.0, 0)),
        ({"preset": "speed", "policy": "margin", "threshold": 0.4}, ("margin", 0.4, 0.0, 16)),
        ({"preset": "speed", "policy": "entropy"}, ("entropy", 0.35, 0.0, 16)),
        # Without one the rest stays as it is.
        ({"edit_threshold": 0.5}, ("confidence", 0.9, 0.5, 16)),
        ({}, ("confidence", 0.9, 1.0, 16)),
    ],
)
def test_a_preset_stands_for_its_fields(given: dict[str, Any], expected: tuple[Any, ...]) -> None:
    resolved = request(LLADA2, **given)
    assert (
        resolved.policy,
        resolved.threshold,
        resolved.edit_threshold,
        resolved.max_post_steps,
    ) == expected


def test_a_preset_brings_its_policy() -> None:
    """Its threshold is one of confidence, whatever the server's policy."""
    margin = replace(DEFAULTS, policy="margin", threshold=0.8)
    resolved = request(LLADA2, margin, preset="speed")
    assert (resolved.policy, resolved.threshold) == ("confidence", 0.5)


def test_a_request_lays_its_preset_over_the_servers() -> None:
    speed = request(LLADA2, preset="speed")
    assert request(LLADA2, speed, preset="quality") == request(LLADA2, preset="quality")
    assert request(LLADA2, speed, threshold=0.8) == replace(speed, threshold=0.8)


@pytest.mark.parametrize(
    ("edit_threshold", "edits"), [(0.0, True), (0.5, True), (0.999, True), (1.0, False), (1, False)]
)
def test_an_edit_threshold_of_1_turns_edits_off(edit_threshold: float, edits: bool) -> None:
    assert request(LLADA2, edit_threshold=edit_threshold).edits is edits
    assert not DEFAULTS.edits


PIECES = replace(DEFAULTS, block_length=32, sub_block_length=8, max_steps=32)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (32, 8)),
        ({"sub_block_length": 4}, (32, 4)),
        ({"sub_block_length": 32}, (32, 32)),
        ({"block_length": 16}, (16, 8)),
        ({"block_length": 4}, (4, 4)),  # one piece
        ({"block_length": 16, "sub_block_length": 2}, (16, 2)),
        ({"block_length": 12, "sub_block_length": 4}, (12, 4)),
    ],
)
def test_pieces_follow_their_block(given: dict[str, int], expected: tuple[int, int]) -> None:
    resolved = request(EVERYTHING, PIECES, **given)
    assert (resolved.block_length, resolved.sub_block_length) == expected


def test_a_piece_is_not_longer_than_its_block() -> None:
    with pytest.raises(InvalidFieldError, match="must divide the block, which is 4") as caught:
        request(EVERYTHING, PIECES, block_length=4, sub_block_length=8)
    assert caught.value.field == "diffusion_sub_block_length"


@pytest.mark.parametrize("kv_cache", ["prefix", "dual"])
def test_a_cache_holds_no_second_sequence(kv_cache: str) -> None:
    with pytest.raises(InvalidFieldError, match=f"'{kv_cache}' holds one sequence") as caught:
        request(guidance_scale=1.5, kv_cache=kv_cache)
    assert caught.value.field == "diffusion_guidance_scale"
    assert request(guidance_scale=0, kv_cache=kv_cache).kv_cache == kv_cache
