"""The levels of effort: what each stands for in every family, and how hard it is."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import Any

import pytest

from vllm_diffusion.denoise.policies import POLICIES
from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.family.rows import (
    FAMILIES,
    LLADA,
    LLADA2,
    NEMOTRON_LABS,
    SDAR,
    STABLE_DIFFCODER,
)
from vllm_diffusion.request.effort import (
    BY_BOUND,
    BY_DOUBT,
    BY_STEPS,
    LEVELS,
    REASONING,
    REASONING_RECOMPUTED,
    reasoning_of,
)
from vllm_diffusion.request.params import DecodeParams, InvalidFieldError
from vllm_diffusion.request.parsed import parse
from vllm_diffusion.request.plan import DecodePlan, make_plan

MOVED = ("threshold", "max_steps", "edit_threshold", "max_post_steps")


def plan_for(
    record: FamilyRecord = SDAR,
    weights: str | None = None,
    shipped: dict[str, Any] | None = None,
    **options: Any,
) -> DecodePlan:
    return make_plan(
        record,
        mask_id=3,
        block_length=None if record.default_block_length else 16,
        vocab_size=512,
        generation={f"diffusion_{key}": value for key, value in (shipped or {}).items()},
        options=options,
        preset=weights,
    )


def ask(plan: DecodePlan, **said: Any) -> DecodeParams:
    return parse({f"diffusion_{key}": value for key, value in said.items()}, plan).decode


def levels(plan: DecodePlan, **said: Any) -> list[DecodeParams]:
    return [ask(plan, effort=level, **said) for level in LEVELS]


def test_every_policy_has_one_dial() -> None:
    dials = (*BY_DOUBT, *BY_BOUND, *BY_STEPS)
    assert sorted(dials) == sorted(POLICIES.keys() - {"self_speculation"})


@pytest.mark.parametrize("policy", [*BY_DOUBT, *BY_BOUND, *BY_STEPS])
@pytest.mark.parametrize("record", FAMILIES.values(), ids=lambda record: record.architecture)
def test_more_effort_never_accepts_on_more_doubt(record: FamilyRecord, policy: str) -> None:
    plan = plan_for(record)
    # A clock runs over whole blocks.
    length = plan.defaults.block_length
    whole = {} if record.sub_block_length is None else {"sub_block_length": length}
    found = levels(plan, policy=policy, **whole)
    assert found[2] == ask(plan, policy=policy, **whole)
    for less, more in pairwise(found):
        sign = -1 if policy in BY_BOUND else 1
        assert sign * less.threshold <= sign * more.threshold
        assert less.max_steps <= more.max_steps
        assert less.edit_threshold <= more.edit_threshold
        assert less.max_post_steps <= more.max_post_steps
    moved = "max_steps" if policy in BY_STEPS else "threshold"
    assert getattr(found[0], moved) != getattr(found[2], moved)
    assert getattr(found[0], moved) != getattr(found[1], moved)
    if policy not in BY_STEPS:
        assert getattr(found[2], moved) != getattr(found[3], moved)


@pytest.mark.parametrize("record", FAMILIES.values(), ids=lambda record: record.architecture)
def test_only_how_hard_is_moved(record: FamilyRecord) -> None:
    """Neither the policy nor blocks, caches and guidance."""
    plan = plan_for(record)
    for found in levels(plan):
        for kept in {field.name for field in fields(DecodeParams)} - set(MOVED):
            assert getattr(found, kept) == getattr(plan.defaults, kept)


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        (0.9, [0.6, 0.8, 0.9, 0.98]),
        (0.995, [0.98, 0.99, 0.995, 0.999]),
        (0.8, [0.5, 0.6, 0.8, 0.96]),
        (0.3, [0.3, 0.3, 0.3, 0.86]),
        (0.0, [0.0, 0.0, 0.0, 0.8]),
        (1.0, [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_permitted_doubt_is_scaled(served: float, expected: list[float]) -> None:
    found = levels(plan_for(threshold=served))
    assert [params.threshold for params in found] == expected
    assert {params.max_steps for params in found} == {16}


def test_the_bound_on_entropy_is_scaled_within_its_range() -> None:
    plan = plan_for()
    bounds = [params.threshold for params in levels(plan, policy="entropy")]
    assert bounds == pytest.approx([1.4, 0.7, 0.35, 0.07])
    assert ask(plan_for(policy="entropy", threshold=900), effort="instant").threshold == 1000


def test_steps_are_scaled() -> None:
    assert [params.max_steps for params in levels(plan_for(LLADA))] == [8, 16, 32, 32]
    assert [params.max_steps for params in levels(plan_for(LLADA, max_steps=6))] == [2, 3, 6, 12]
    assert [params.max_steps for params in levels(plan_for(STABLE_DIFFCODER))] == [1, 2, 4, 4]
    short = levels(plan_for(LLADA), block_length=10)
    assert [params.max_steps for params in short] == [3, 5, 10, 10]


def test_a_model_that_edits_has_its_released_modes() -> None:
    found = levels(plan_for(LLADA2, weights="quality"))
    moved = [(p.threshold, p.edit_threshold, p.max_post_steps) for p in found]
    assert moved == [(0.5, 0.0, 0), (0.5, 0.0, 16), (0.7, 0.5, 16), (0.94, 0.5, 16)]
    # The same architecture without edits.
    assert [p.threshold for p in levels(plan_for(LLADA2))] == [0.8, 0.9, 0.95, 0.99]
    assert not any(p.edits for p in levels(plan_for(LLADA2)))


def test_a_field_that_is_said_beside_it_wins() -> None:
    plan = plan_for(LLADA2, weights="quality")
    found = ask(plan, effort="low", edit_threshold=0.3)
    assert (found.threshold, found.edit_threshold) == (0.5, 0.3)
    assert ask(plan_for(), effort="instant", threshold=0.97).threshold == 0.97
    other = ask(plan_for(), effort="low", policy="margin")
    assert (other.policy, other.threshold) == ("margin", 0.6)


def test_effort_and_preset_contradict_each_other() -> None:
    plan = plan_for(LLADA2)
    with pytest.raises(InvalidFieldError, match="leave one of the two out") as caught:
        ask(plan, effort="low", preset="speed")
    assert caught.value.field == "diffusion_effort"
    with pytest.raises(InvalidFieldError, match="leave one of the two out") as caught:
        plan_for(LLADA2, effort="low", preset="speed")
    assert caught.value.field == "effort"


@pytest.mark.parametrize("value", ["extreme", "High", 1, None, True])
def test_an_unknown_level_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidFieldError, match="one of instant, low, medium, high") as caught:
        ask(plan_for(), effort=value)
    assert caught.value.field == "diffusion_effort"


def test_a_draft_cannot_be_refined() -> None:
    with pytest.raises(InvalidFieldError, match=r"'self_speculation'.*another policy") as caught:
        ask(plan_for(NEMOTRON_LABS), effort="high", policy="self_speculation")
    assert caught.value.field == "diffusion_effort"
    served = plan_for(NEMOTRON_LABS, policy="self_speculation")
    with pytest.raises(InvalidFieldError, match="self_speculation"):
        ask(served, effort="high")
    assert ask(served, effort="high", policy="confidence").threshold == 0.98


def test_the_servers_effort_is_a_default_and_not_a_scale() -> None:
    plan = plan_for(effort="high")
    assert plan.defaults.threshold == 0.98
    assert [params.threshold for params in levels(plan)] == [0.6, 0.8, 0.9, 0.98]
    assert ask(plan, max_steps=3).threshold == 0.98
    assert plan_for(effort="high", threshold=0.7).defaults.threshold == 0.7


def test_the_server_wins_over_the_checkpoint() -> None:
    assert plan_for(shipped={"effort": "low"}).defaults.threshold == 0.8
    both = plan_for(shipped={"effort": "low", "threshold": 0.95}, effort="instant")
    assert both.defaults.threshold == 0.8
    assert both.medium.threshold == 0.95


@pytest.mark.parametrize("record", FAMILIES.values(), ids=lambda record: record.architecture)
def test_reasoning_grows_with_its_level(record: FamilyRecord) -> None:
    table = list(reasoning_of(record).values())
    assert [row.budget for row in table[:2]] == [0, 0]
    for less, more in pairwise(table[1:]):
        assert less.budget <= more.budget
    ranks = [LEVELS.index(row.effort) for row in table if row.budget or row.effort == "instant"]
    assert ranks == sorted(ranks)


def test_every_level_of_vllm_has_a_meaning() -> None:
    protocol = pytest.importorskip("vllm.entrypoints.openai.chat_completion.protocol")
    schema = protocol.ChatCompletionRequest.model_json_schema()
    options = schema["properties"]["reasoning_effort"]["anyOf"]
    known = {level for option in options for level in option.get("enum", ())}
    for table in (REASONING, REASONING_RECOMPUTED):
        assert table.keys() == known | {"instant"}
