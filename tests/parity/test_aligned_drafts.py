"""Drafts that follow the text: token for token and step for step as the plain reference."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tests.parity.cases import MIN_SLACK, random_tokens
from tests.parity.families import FamilyCase, FamilyYardstick, Mode
from tests.parity.family_bench import FamilyBench, make_bench
from tests.parity.references import seeded
from tests.parity.test_family_chunking import BUDGET
from tests.parity.test_family_preemption import MAX_LEN, check
from tests.parity.test_preemption import SCARCE
from tests.parity.test_seed_canvas import GROUPS, RENAMED, ROOM, text

bench = pytest.fixture(scope="module")(make_bench)

LOW = {"threshold": 0.05}
"""So that a random model keeps some of what it has said itself."""
FIELDS: dict[str, dict[str, Any]] = {
    "block-causal": LOW,
    "edits": {},
    "shifted-seeds": LOW,
    "causal-context": LOW,
    "full": {},
    "full-sure": LOW,
    "full-dual": {},
    "full-shifted-sure": LOW,
}
CHANGES: dict[str, Callable[[list[int]], list[int]]] = {
    "nothing": lambda own: own,
    "a token": lambda own: [*own[:9], 7, *own[10:]],
    "more": lambda own: [*own[:5], *text(1)[:3], *own[5:]],
    "less": lambda own: own[:6] + own[11:],
    "both": lambda own: own[:3] + own[5:17] + text(2)[:6] + own[17:],
    "its end": lambda own: own[:12],
    "everything": lambda _: text(3),
}
"""What becomes of a model's own answer before it is drafted."""


def plain(name: str) -> Mode:
    _, of_group, fields = GROUPS[name]
    said = fields | FIELDS[name]
    reference = {RENAMED.get(key, key): value for key, value in said.items()}
    return Mode(fields=said, generate=seeded.generate, reference={**of_group, **reference})


def drafted(name: str, draft: list[int]) -> Mode:
    mode = plain(name)
    laid = {"draft": draft}
    return Mode(
        fields={**mode.fields, **laid},
        generate=seeded.generate,
        reference={**mode.reference, **laid},
    )


def drawn(
    yardstick: FamilyYardstick, name: str, length: int, kind: str, max_tokens: int = ROOM
) -> FamilyCase:
    """A case without near-ties."""
    for number in count(length):
        prompt = random_tokens(length, number)
        own = yardstick(FamilyCase(prompt=prompt, max_tokens=max_tokens, mode=plain(name)))
        draft = CHANGES[kind](list(own.tokens))
        case = FamilyCase(prompt=prompt, max_tokens=max_tokens, mode=drafted(name, draft))
        if draft and min(own.slack, yardstick(case).slack) >= MIN_SLACK:
            return case
    raise AssertionError


groups = pytest.mark.parametrize("name", FIELDS)


@groups
def test_alone_and_in_company(name: str, bench: FamilyBench) -> None:
    """Beside requests without drafts, and with pinned canvases' drafts, which do not move."""
    family = GROUPS[name][0]
    engine, yardstick = bench.engine(family), bench.yardstick(family)
    cases = [drawn(yardstick, name, 5 + 7 * n, kind) for n, kind in enumerate(CHANGES)]
    yardstick.compare(cases, engine.run_alone(cases))
    others = [yardstick.draw(9 + 7 * n, ROOM, mode) for n, mode in enumerate(family.modes)]
    mixed = [case for pair in zip(cases, others, strict=False) for case in pair]
    mixed += cases[len(others) :]
    yardstick.compare(mixed, engine.run(mixed, every=2))


@pytest.mark.parametrize("name", [name for name, said in FIELDS.items() if said is LOW])
def test_a_draft_without_changes_costs_a_forward_a_block(name: str, bench: FamilyBench) -> None:
    family = GROUPS[name][0]
    engine, yardstick = bench.engine(family), bench.yardstick(family)
    has_seed = GROUPS[name][1].get("seed", False)
    for length in (6, 13):
        # Everything is kept at this bound, whatever was drafted.
        own = yardstick(
            FamilyCase(prompt=random_tokens(length, 3), max_tokens=ROOM, mode=plain(name))
        )
        mode = drafted(name, list(own.tokens))
        mode = Mode(fields={**mode.fields, "threshold": 0.0})
        case = FamilyCase(prompt=random_tokens(length, 3), max_tokens=ROOM, mode=mode)
        (got,) = engine.run([case])
        assert got.tokens == own.tokens
        num_blocks = -(-(len(own.tokens) + length % family.block) // family.block)
        assert got.steps <= num_blocks * (1 + has_seed)
        assert got.steps <= own.steps


@pytest.mark.parametrize("name", ["block-causal", "shifted-seeds", "causal-context", "full-sure"])
def test_in_every_step(name: str, bench: FamilyBench) -> None:
    """All running requests lose everything at once, after a step that is another each time."""
    family = GROUPS[name][0]
    yardstick, engine = bench.yardstick(family, MAX_LEN), bench.engine(family, **SCARCE)
    kinds = ("a token", "more", "less")
    cases = [drawn(yardstick, name, 19 + 7 * n, kind, 60) for n, kind in enumerate(kinds)]
    for num_steps in (1, 3, 6, 9):
        engine.fresh()
        for number, case in enumerate(cases):
            engine.add(str(number), case.prompt, **case.arguments())
        for _ in range(num_steps):
            engine.step()
        assert engine.engine.reset_prefix_cache(reset_running_requests=True)
        engine.drain()
        check(yardstick, engine, cases, [engine.outcomes(str(n))[0] for n in range(len(cases))])
        assert engine.preempted


@pytest.mark.parametrize("name", ["block-causal", "full-sure"])
def test_draws_are_the_same_in_company_and_behind_a_cached_prompt(
    name: str, bench: FamilyBench
) -> None:
    family = GROUPS[name][0]
    engine, yardstick = bench.engine(family), bench.yardstick(family)
    cases = [drawn(yardstick, name, 40 + n, kind) for n, kind in enumerate(CHANGES)]

    def run(together: int) -> list[list[int]]:
        answers = []
        for at in range(0, len(cases), together):
            for number, case in enumerate(cases[at : at + together]):
                sampled = case.arguments() | {"temperature": 0.8, "seed": 5}
                engine.add(f"{at}-{number}", case.prompt, **sampled)
            engine.drain()
            names = [f"{at}-{number}" for number in range(len(cases[at : at + together]))]
            answers += [engine.outcomes(each)[0].tokens for each in names]
        return answers

    engine.fresh()
    alone = run(1)
    assert run(len(cases)) == alone


@pytest.mark.parametrize("name", ["shifted-seeds", "causal-context"])
def test_prompts_in_pieces(name: str, bench: FamilyBench) -> None:
    """Drafts wait while a prompt is computed, some in steps in which others denoise."""
    family = GROUPS[name][0]
    yardstick = bench.yardstick(family)
    kinds = ("more", "less", "a token")
    cases = [
        drawn(yardstick, name, length, kind)
        for length, kind in zip((62, 65, 129), kinds, strict=True)
    ]
    engine = bench.engine(family, max_num_batched_tokens=BUDGET)
    outcomes = engine.run(cases, every=2)
    yardstick.compare(cases, outcomes)
    assert outcomes[2].prefills
