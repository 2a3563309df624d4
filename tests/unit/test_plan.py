"""The plan of a checkpoint: who decides what, and what a checkpoint cannot do without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vllm_diffusion.family import FAMILIES, SDAR
from vllm_diffusion.params import InvalidFieldError
from vllm_diffusion.plan import DecodePlan, make_plan


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
    assert plan.request_params(extra).threshold == threshold


def test_each_level_may_choose_another_policy() -> None:
    plan = plan_of(
        generation={"diffusion_policy": "margin", "diffusion_threshold": 0.7},
        options={"policy": "entropy"},
    )
    assert (plan.defaults.policy, plan.defaults.threshold) == ("entropy", 0.35)
    params = plan.request_params({"diffusion_policy": "static"})
    assert (params.policy, params.threshold) == ("static", 0.0)


def test_a_request_without_fields_gets_the_defaults_themselves() -> None:
    plan = plan_of()
    assert plan.request_params(None) is plan.defaults
    assert plan.request_params({}) is plan.defaults
    assert plan.request_params({"other": 1}) == plan.defaults


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
        assert plan.request_params({"diffusion_max_steps": 9}).max_steps == 9


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"options": {"tau": 1}}, "tau", "not known; known are policy, threshold"),
        ({"options": {"threshold": 2}}, "threshold", "from 0.0 to 1.0"),
        ({"options": {"threshold": "high"}}, "threshold", "finite number"),
        ({"options": {"policy": "x"}}, "policy", "one of confidence"),
        ({"generation": {"diffusion_tau": 1}}, "diffusion_tau", "not known"),
        ({"generation": {"diffusion_threshold": 9}}, "diffusion_threshold", "from 0.0"),
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


def test_a_family_may_fix_the_block_length_of_requests() -> None:
    plan = plan_of(record=replace(SDAR, block_length_is_free=False))
    with pytest.raises(InvalidFieldError, match="fixed at 16"):
        plan.request_params({"diffusion_block_length": 8})
    assert plan_of().request_params({"diffusion_block_length": 8}).block_length == 8


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_a_valid_record(name: str) -> None:
    record = FAMILIES[name]
    assert record.architecture == name
    low, high = record.block_lengths
    assert 1 <= low <= high
    for block_length in (low, high):
        plan = plan_of(record=record, block_length=block_length)
        assert plan.canvas_length == block_length
