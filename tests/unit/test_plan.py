"""The plan of a checkpoint: who decides what, and what a checkpoint cannot do without."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_diffusion.denoise.policies import POLICIES
from vllm_diffusion.family.rows import (
    DREAM,
    FAMILIES,
    FAST_DLLM_V2,
    LLADA,
    LLADA2,
    NEMOTRON_LABS,
    SDAR,
)
from vllm_diffusion.request.params import DecodeParams, InvalidFieldError
from vllm_diffusion.request.parsed import parse
from vllm_diffusion.request.plan import DecodePlan, make_plan


def plan_of(**changes: Any) -> DecodePlan:
    """The plan of a checkpoint with blocks of 16, changed at will."""
    record = changes.pop("record", SDAR)
    arguments: dict[str, Any] = {
        "mask_id": 3,
        "block_length": 16,
        "vocab_size": 512,
        "generation": {},
        "options": {},
    }
    return make_plan(record, **arguments | changes)


def test_the_family_decides_what_nobody_says() -> None:
    plan = plan_of()
    assert plan.record is SDAR
    assert (plan.mask_id, plan.canvas_length) == (3, 16)
    assert plan.defaults.policy == SDAR.default_policy
    assert plan.defaults.threshold == SDAR.default_threshold
    assert (plan.defaults.max_steps, plan.defaults.block_length) == (16, 16)


@pytest.mark.parametrize(
    ("generation", "server", "request_args", "threshold"),
    [
        (None, None, None, SDAR.default_threshold),
        (0.2, None, None, 0.2),
        (0.2, 0.3, None, 0.3),
        (0.2, 0.3, 0.4, 0.4),
        (None, 0.3, None, 0.3),
        (None, None, 0.4, 0.4),
        (0.2, None, 0.4, 0.4),
        (0.2, 0.0, None, 0.0),  # zero is said, not unsaid
        (0.2, 0.3, 0, 0.0),
    ],
)
def test_request_then_server_then_generation_config_then_family(
    generation: float | None,
    server: float | None,
    request_args: float | None,
    threshold: float,
) -> None:
    plan = plan_of(
        generation={} if generation is None else {"diffusion_threshold": generation},
        options={} if server is None else {"threshold": server},
    )
    extra = {} if request_args is None else {"diffusion_threshold": request_args}
    assert parse(extra, plan).decode.threshold == threshold


def test_each_level_may_choose_another_policy() -> None:
    plan = plan_of(
        generation={"diffusion_policy": "margin", "diffusion_threshold": 0.7},
        options={"policy": "entropy"},
    )
    assert (plan.defaults.policy, plan.defaults.threshold) == ("entropy", 0.35)
    params = parse({"diffusion_policy": "static"}, plan).decode
    assert (params.policy, params.threshold) == ("static", 0.0)


def test_a_request_without_fields_gets_the_defaults_themselves() -> None:
    plan = plan_of()
    assert parse(None, plan).decode is plan.defaults
    assert parse({}, plan).decode is plan.defaults
    assert parse({"other": 1}, plan).decode == plan.defaults


def test_the_server_sets_the_canvas() -> None:
    for plan in (plan_of(canvas_length=8), plan_of(options={"block_length": 8})):
        assert plan.canvas_length == plan.defaults.block_length == 8
        assert plan.defaults.max_steps == 8
    assert plan_of(canvas_length=8, options={"block_length": 8}).canvas_length == 8
    assert plan_of(generation={"diffusion_block_length": 8}).canvas_length == 8
    assert plan_of(generation={"diffusion_block_length": 8}, canvas_length=4).canvas_length == 4
    assert plan_of(block_length=None, canvas_length=8).canvas_length == 8


def test_the_server_sets_the_steps() -> None:
    for plan in (plan_of(max_denoising_steps=4), plan_of(options={"max_steps": 4})):
        assert plan.defaults.max_steps == 4
        assert parse({"diffusion_max_steps": 9}, plan).decode.max_steps == 9


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"options": {"tau": 1}}, "tau", "not known; known are policy, threshold"),
        ({"options": {"threshold": 2}}, "threshold", "from 0.0 to 1.0"),
        ({"options": {"threshold": "high"}}, "threshold", "finite number"),
        ({"options": {"policy": "x"}}, "policy", "one of confidence"),
        ({"generation": {"diffusion_tau": 1}}, "diffusion_tau", "not known"),
        ({"generation": {"diffusion_threshold": 9}}, "diffusion_threshold", "from 0.0"),
        ({"options": {"kv_cache": "dual"}}, "kv_cache", "has an exact cache"),
        ({"options": {"preset": "speed"}}, "preset", "does not edit"),
        ({"options": {"policy": "self_speculation"}}, "policy", "no causal mode"),
        ({"generation": {"diffusion_edit_threshold": 0.5}}, "diffusion_edit_threshold", "not edit"),
        ({"preset": "speed"}, "preset", "does not edit"),
        ({"record": LLADA2, "options": {"edit_threshold": 2}}, "edit_threshold", "from 0 to 1"),
        (
            {"record": FAST_DLLM_V2, "options": {"sub_block_length": 5}},
            "sub_block_length",
            "must divide the block, which is 16",
        ),
        ({"canvas_length": 3}, "canvas_length", "block lengths from 4 to 64"),
        ({"canvas_length": 128}, "canvas_length", "block lengths from 4 to 64"),
        ({"options": {"block_length": 8}, "canvas_length": 4}, "block_length", "canvas_length 4"),
        (
            {"options": {"max_steps": 8}, "max_denoising_steps": 4},
            "max_steps",
            "max_denoising_steps 4",
        ),
    ],
)
def test_an_option_is_refused_by_name(changes: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidFieldError, match=message) as caught:
        plan_of(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_id": None}, "SDARForCausalLM has no mask_token_id.*add the id"),
        ({"mask_id": 512}, "mask_token_id=512 is outside of the vocabulary of 512"),
        ({"mask_id": -1}, "mask_token_id=-1 is outside"),
        ({"block_length": None}, "has no block_size; say it with --diffusion-config"),
    ],
)
def test_a_checkpoint_must_say_what_decoding_needs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of(**changes)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_a_valid_record(name: str) -> None:
    record = FAMILIES[name]
    assert record.architecture == name
    low, high = record.block_lengths
    assert 1 <= low <= high
    for block_length in (low, high):
        plan = plan_of(record=record, block_length=block_length)
        assert plan.canvas_length == block_length
    if record.default_block_length is not None:
        assert low <= record.default_block_length <= high
        assert record.default_block_length % (record.sub_block_length or 1) == 0
    threshold_range = POLICIES[record.default_policy].threshold_range
    assert threshold_range[0] <= record.default_threshold <= threshold_range[1]


# (policy, threshold, block length, sub-block length); no block length in config.json.
DEFAULTS = {
    "LLaDA2MoeModelLM": ("confidence", 0.95, 32, 32),
    "DreamForCausalLM": ("confidence", 0.9, 32, 32),
    "StableDiffcoderForCausalLM": ("static", 0.0, 4, 4),
    "Fast_dLLM_QwenForCausalLM": ("confidence", 0.9, 32, 8),
    "NemotronLabsDiffusionModel": ("confidence", 0.9, 32, 32),
    "LLaDAModelLM": ("static", 0.0, 32, 32),
    "ILLaDAForCausalLM": ("static", 0.0, 32, 32),
    "LLaDAMoEModelLM": ("static", 0.0, 32, 32),
    "DreamModel": ("topk_entropy", 0.0, 512, 512),
    "RND1LM": ("topk_entropy", 0.0, 256, 256),
    "CoDALanguageModel": ("topk_entropy", 0.0, 256, 256),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_decodes_with_when_nothing_is_said(name: str) -> None:
    if name not in DEFAULTS:
        with pytest.raises(ValueError, match="has no block_size"):
            plan_of(record=FAMILIES[name], block_length=None)
        return
    plan = plan_of(record=FAMILIES[name], block_length=None)
    policy, threshold, block_length, sub_block_length = DEFAULTS[name]
    assert plan.canvas_length == block_length
    assert plan.defaults == DecodeParams(
        policy=policy,
        threshold=threshold,
        max_steps=block_length,
        block_length=block_length,
        sub_block_length=sub_block_length,
        edit_threshold=1.0,
        max_post_steps=16,
        kv_cache="exact",
    )


def test_a_familys_block_length_is_the_last_to_be_asked() -> None:
    assert plan_of(record=LLADA2).canvas_length == 16
    shipped = {"diffusion_block_length": 8}
    assert plan_of(record=LLADA2, block_length=None, generation=shipped).canvas_length == 8
    assert plan_of(record=LLADA2, block_length=None, canvas_length=4).canvas_length == 4


@pytest.mark.parametrize(
    ("length", "sub_block_length"), [(32, 8), (64, 8), (8, 8), (4, 4), (12, 12), (20, 20)]
)
def test_pieces_that_do_not_fit_the_block_are_not_made(length: int, sub_block_length: int) -> None:
    plan = plan_of(record=FAST_DLLM_V2, canvas_length=length)
    assert plan.defaults.block_length == length
    assert plan.defaults.sub_block_length == sub_block_length


def test_a_checkpoint_may_be_trained_for_a_preset() -> None:
    """It ranks below everything that is said, and above the family."""
    plan = plan_of(record=LLADA2, preset="quality")
    assert (plan.defaults.threshold, plan.defaults.edit_threshold) == (0.7, 0.5)
    assert plan.defaults.edits
    assert not plan_of(record=LLADA2).defaults.edits
    plan = plan_of(record=LLADA2, preset="quality", generation={"diffusion_threshold": 0.8})
    assert (plan.defaults.threshold, plan.defaults.edit_threshold) == (0.8, 0.5)
    plan = plan_of(record=LLADA2, preset="quality", options={"edit_threshold": 1})
    assert (plan.defaults.threshold, plan.defaults.edits) == (0.7, False)
    plan = plan_of(record=LLADA2, preset="quality", options={"preset": "speed"})
    assert (plan.defaults.threshold, plan.defaults.edit_threshold) == (0.5, 0.0)
    params = parse({"diffusion_preset": "quality", "diffusion_max_post_steps": 5}, plan).decode
    assert (params.threshold, params.edit_threshold, params.max_post_steps) == (0.7, 0.5, 5)


def test_the_server_may_choose_what_the_family_takes() -> None:
    assert plan_of(record=LLADA, options={"kv_cache": "dual"}).defaults.kv_cache == "dual"
    speculates = plan_of(record=NEMOTRON_LABS, options={"policy": "self_speculation"})
    assert (speculates.defaults.policy, speculates.defaults.threshold) == ("self_speculation", 0.0)
    plan = plan_of(record=FAST_DLLM_V2, options={"sub_block_length": 4})
    assert parse({"diffusion_sub_block_length": 16}, plan).decode.sub_block_length == 16
    assert parse({"diffusion_threshold": 0.5}, plan).decode.sub_block_length == 4


@pytest.mark.parametrize("name", FAMILIES)
def test_a_request_may_shorten_the_blocks_of_some_families(name: str) -> None:
    record = FAMILIES[name]
    plan = plan_of(record=record)
    if record.block_length_is_free:
        params = parse({"diffusion_block_length": 8}, plan).decode
        assert (params.block_length, params.sub_block_length, params.max_steps) == (8, 8, 8)
    else:
        with pytest.raises(InvalidFieldError, match="fixed at 16"):
            parse({"diffusion_block_length": 8}, plan)
    assert parse({"diffusion_block_length": 16}, plan).decode == plan.defaults


def test_full_attention_takes_blocks_that_do_not_divide_the_canvas() -> None:
    plan = plan_of(record=DREAM, block_length=None)
    params = parse({"diffusion_block_length": 300, "diffusion_max_steps": 400}, plan).decode
    assert (params.block_length, params.sub_block_length, params.max_steps) == (300, 300, 300)
    with pytest.raises(InvalidFieldError, match="the served canvas is 512"):
        parse({"diffusion_block_length": 513}, plan)
