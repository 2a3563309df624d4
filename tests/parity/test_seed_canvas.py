"""Pinned text, drafts and holes: token for token and step for step as the plain reference."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest

from tests.checkpoints import sdar
from tests.parity.cases import MIN_SLACK, random_tokens
from tests.parity.families import FAMILIES, Family, FamilyCase, FamilyYardstick, Mode
from tests.parity.family_bench import DREAM, FAST, LLADA, LLADA2, NEMOTRON, FamilyBench, make_bench
from tests.parity.references import seeded
from tests.parity.test_family_preemption import MAX_LEN, check
from tests.parity.test_preemption import SCARCE

bench = pytest.fixture(scope="module")(make_bench)

SDAR = next(family for family in FAMILIES if family.module is sdar)
ROOM = 30
H = None
"""A hole in a seed, as the tests say it."""

GROUPS: dict[str, tuple[Family, dict[str, Any], dict[str, Any]]] = {
    "block-causal": (SDAR, {"group": "block_causal"}, {"threshold": 0.5}),
    "edits": (
        LLADA2,
        {"group": "block_causal"},
        {"threshold": 0.5, "edit_threshold": 0.1, "max_post_steps": 3},
    ),
    "shifted-seeds": (
        FAST,
        {"group": "block_causal", "shift": True, "seed": True},
        {"threshold": 0.4, "sub_block_length": 4},
    ),
    "causal-context": (NEMOTRON, {"group": "causal_context", "seed": True}, {"threshold": 0.5}),
    "full": (LLADA, {"group": "full"}, {"policy": "static"}),
    "full-sure": (LLADA, {"group": "full"}, {"policy": "confidence", "threshold": 0.5}),
    "full-guided": (LLADA, {"group": "full"}, {"policy": "static", "guidance_scale": 1.5}),
    "full-prefix": (LLADA, {"group": "full"}, {"policy": "static", "kv_cache": "prefix"}),
    "full-dual": (LLADA, {"group": "full"}, {"policy": "static", "kv_cache": "dual"}),
    "full-shifted": (DREAM, {"group": "full", "shift": True}, {"policy": "topk_entropy"}),
    "full-shifted-sure": (
        DREAM,
        {"group": "full", "shift": True},
        {"policy": "confidence", "threshold": 0.5},
    ),
}
RENAMED = {"sub_block_length": "sub_block", "guidance_scale": "guidance"}
groups = pytest.mark.parametrize("name", GROUPS)


def mode_of(
    name: str, seed: Sequence[int | None], pinned: Sequence[int], **more: Any
) -> tuple[Family, Mode]:
    """A request with a seed, for the engine and for the reference."""
    family, of_group, fields = GROUPS[name]
    said = fields | more
    tokens = [family.mask_id if token is None else token for token in seed]
    laid = {"seed_canvas": tokens, "pinned": list(pinned)}
    reference = {RENAMED.get(key, key): value for key, value in said.items()}
    return family, Mode(
        fields={**said, **laid},
        generate=seeded.generate,
        reference={**of_group, **reference, **laid},
    )


def pins(tokens: Sequence[int], *spans: tuple[int, int]) -> tuple[list[int | None], list[int]]:
    """A seed whose ``spans`` are pinned and whose other positions are holes."""
    pinned = [at for start, end in spans for at in range(start, end)]
    return [tokens[at] if at in pinned else H for at in range(max(pinned) + 1)], pinned


def text(number: int) -> list[int]:
    """Tokens that neither mask nor end anything."""
    special = {number for family in FAMILIES for number in (family.mask_id, family.eos_id)}
    tokens = random_tokens(2 * ROOM, 1000 + number)
    return [token for token in tokens if token not in special][:ROOM]


def layouts(number: int) -> dict[str, tuple[list[int | None], list[int]]]:
    """What requests may lay, by what it is a case of."""
    tokens = text(number)
    return {
        "hole in a block": pins(tokens, (0, 3), (5, 7)),
        "hole over blocks": pins(tokens, (0, 2), (20, 26)),
        "three holes": pins(tokens, (2, 5), (8, 9), (14, 22)),
        "both ends": pins(tokens, (0, 1), (29, 30)),
        "everything": pins(tokens, (0, 30)),
        "a draft": (list(tokens), []),
        "a draft around pins": (list(tokens), list(range(6, 12))),
        "drafts, pins and holes": ([*tokens[:4], H, H, *tokens[6:20]], [1, 2, 9, 18, 19]),
    }


def drawn(
    yardstick: FamilyYardstick,
    name: str,
    length: int,
    kind: str,
    *,
    max_tokens: int = ROOM,
    **more: Any,
) -> FamilyCase:
    """A case without near-ties."""
    for number in count(length):
        seed, pinned = layouts(number)[kind]
        _, mode = mode_of(name, seed, pinned, **more)
        case = FamilyCase(prompt=random_tokens(length, number), max_tokens=max_tokens, mode=mode)
        if yardstick(case).slack >= MIN_SLACK:
            return case
    raise AssertionError


def cases_of(yardstick: FamilyYardstick, name: str) -> list[FamilyCase]:
    return [drawn(yardstick, name, 5 + 7 * number, kind) for number, kind in enumerate(layouts(0))]


@groups
def test_alone_and_beside_ordinary_requests(name: str, bench: FamilyBench) -> None:
    family = GROUPS[name][0]
    engine, yardstick = bench.engine(family), bench.yardstick(family)
    cases = cases_of(yardstick, name)
    yardstick.compare(cases, engine.run_alone(cases))
    ordinary = [yardstick.draw(9 + 7 * n, ROOM, mode) for n, mode in enumerate(family.modes)]
    mixed = [case for pair in zip(cases, ordinary, strict=False) for case in pair]
    mixed += cases[len(ordinary) :]
    yardstick.compare(mixed, engine.run(mixed, every=2))


KEPT = {"block-causal": 0.05, "causal-context": 0.05, "full-sure": 0.05, "shifted-seeds": 0.05}


@pytest.mark.parametrize("name", KEPT)
def test_a_draft_is_kept_in_part(name: str, bench: FamilyBench) -> None:
    """The draft is the model's own answer with a token changed; a bound that some of it meets."""
    family, _, fields = GROUPS[name]
    engine, yardstick = bench.engine(family), bench.yardstick(family)
    threshold = {**fields, "threshold": KEPT[name]}
    plain = Mode(
        fields=threshold,
        reference={RENAMED.get(key, key): value for key, value in threshold.items()},
    )
    cases, drafts = [], []
    for length in (6, 11, 17, 24):
        for number in count(length):
            own = FamilyCase(prompt=random_tokens(length, number), max_tokens=ROOM, mode=plain)
            answer = yardstick(own)
            draft = [*answer.tokens[:9], 7, *answer.tokens[10:]]
            _, mode = mode_of(name, draft, (), threshold=KEPT[name])
            case = FamilyCase(prompt=own.prompt, max_tokens=ROOM, mode=mode)
            if min(answer.slack, yardstick(case).slack) >= MIN_SLACK:
                break
        cases.append(case)
        drafts.append(draft)
    outcomes = engine.run(cases)
    yardstick.compare(cases, outcomes)
    same = [
        token == drafted
        for outcome, draft in zip(outcomes, drafts, strict=True)
        for token, drafted in zip(outcome.tokens, draft, strict=False)
    ]
    assert len(same) // 10 < sum(same) < len(same)


@pytest.mark.parametrize("name", ["block-causal", "shifted-seeds", "causal-context", "edits"])
def test_too_few_pages(name: str, bench: FamilyBench) -> None:
    family = GROUPS[name][0]
    yardstick, engine = bench.yardstick(family, MAX_LEN), bench.engine(family, **SCARCE)
    kinds = ("hole over blocks", "drafts, pins and holes", "everything", "three holes")
    cases = [
        drawn(yardstick, name, 10 + 3 * number, kinds[number % 4], max_tokens=60)
        for number in range(8)
    ]
    outcomes = engine.run(cases, every=1)
    check(yardstick, engine, cases, outcomes)
    assert engine.preempted


@groups
def test_in_every_step(name: str, bench: FamilyBench) -> None:
    """All running requests lose everything at once, after a step that is another each time."""
    family = GROUPS[name][0]
    yardstick, engine = bench.yardstick(family, MAX_LEN), bench.engine(family, **SCARCE)
    kinds = ("hole over blocks", "drafts, pins and holes", "three holes")
    cases = [drawn(yardstick, name, 19 + 7 * n, kind) for n, kind in enumerate(kinds)]
    for num_steps in (1, 2, 4, 7, 10):
        engine.fresh()
        for number, case in enumerate(cases):
            engine.add(str(number), case.prompt, **case.arguments())
        for _ in range(num_steps):
            engine.step()
        assert engine.engine.reset_prefix_cache(reset_running_requests=True)
        engine.drain()
        check(yardstick, engine, cases, [engine.outcomes(str(n))[0] for n in range(len(cases))])
        assert engine.preempted


@pytest.mark.parametrize("name", ["block-causal", "causal-context", "full", "full-shifted"])
def test_what_is_pinned_is_not_cut_off(name: str, bench: FamilyBench) -> None:
    """Every token but a few ends the text, and none does in front of what is pinned."""
    family = GROUPS[name][0]
    engine = bench.engine(family)
    tokens = text(0)
    seed, pinned = pins(tokens, (0, 2), (12, 14))
    _, mode = mode_of(name, seed, pinned)
    stops = [token for token in range(8, 500) if token not in tokens]
    arguments = FamilyCase(prompt=random_tokens(9, 1), max_tokens=ROOM, mode=mode).arguments()
    engine.add("0", random_tokens(9, 1), stop_token_ids=stops, **arguments)
    engine.drain()
    outcome = engine.outcomes("0")[0]
    assert [outcome.tokens[at] for at in pinned] == [tokens[at] for at in pinned]
    assert not set(outcome.tokens[: pinned[-1]]) & set(stops)
    assert outcome.reason == "stop"
    assert outcome.tokens[-1] in stops


@pytest.mark.slow
@pytest.mark.usefixtures("forked_ranks")
@pytest.mark.parametrize("ranks", ["tensor_parallel_size", "pipeline_parallel_size"])
@pytest.mark.parametrize("name", ["shifted-seeds", "full"])
def test_two_ranks(name: str, ranks: str, bench: FamilyBench) -> None:
    family = GROUPS[name][0]
    yardstick = bench.yardstick(family, MAX_LEN)
    kinds = ("hole over blocks", "drafts, pins and holes", "three holes", "everything")
    cases = [drawn(yardstick, name, 9 + 7 * n, kind) for n, kind in enumerate(kinds)]
    bench.engines.close()
    engine = bench.engines(
        bench.checkpoint(family), **family.engine_options, **{ranks: 2}, max_model_len=MAX_LEN
    )
    try:
        yardstick.compare(cases, engine.run(cases, every=1))
    finally:
        bench.engines.close()
