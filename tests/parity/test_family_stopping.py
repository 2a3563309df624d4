"""Ends inside of a block, a canvas or a draft: limits, stop tokens, the model's length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.parity.cases import MIN_SLACK, random_tokens
from tests.parity.engines import EnginePool
from tests.parity.families import Family, FamilyCase, FamilyYardstick, Mode
from tests.parity.family_bench import FAST, LLADA2, FamilyBench, kinds, make_bench, write
from tests.parity.references.choose import Answer

bench = pytest.fixture(scope="module")(make_bench)


@dataclass(frozen=True, kw_only=True)
class EndingCase(FamilyCase):
    """A request that says where it ends."""

    stop_ids: tuple[int, ...] = ()
    """Besides the end of sequence."""
    ignore_eos: bool = False

    def arguments(self) -> dict[str, Any]:
        said = {"stop_token_ids": list(self.stop_ids), "ignore_eos": self.ignore_eos}
        return super().arguments() | said


class EndingYardstick(FamilyYardstick):
    """For cases with stop ids of their own."""

    def __init__(self, family: Family, folder: Path, eos_id: int | None = None) -> None:
        super().__init__(family, folder)
        self.eos_id = family.eos_id if eos_id is None else eos_id
        self.by_end: dict[tuple[int, ...], dict[Any, Answer]] = {}

    def __call__(self, case: EndingCase) -> Answer:
        stop_ids = case.stop_ids if case.ignore_eos else (*case.stop_ids, self.eos_id)
        self.known = self.by_end.setdefault(stop_ids, {})
        mode = replace(case.mode, reference={**case.mode.reference, "stop_ids": stop_ids})
        return super().__call__(replace(case, mode=mode))

    def endless(self, length: int, max_tokens: int, mode: Mode) -> EndingCase:
        """A clear case that nothing but ``max_tokens`` ends."""
        cases = (
            EndingCase(
                prompt=random_tokens(length, seed),
                max_tokens=max_tokens,
                mode=mode,
                ignore_eos=True,
            )
            for seed in count()
        )
        return next(case for case in cases if self(case).slack >= MIN_SLACK)


def seven(modes: Sequence[Mode]) -> Sequence[Mode]:
    """As many modes, in turn."""
    return [modes[number % len(modes)] for number in range(7)]


@kinds()
def test_token_limits(family: Family, modes: tuple[Mode, ...], bench: FamilyBench) -> None:
    yardstick = bench.yardstick(family)
    block = min(family.block, 20)
    limits = (1, 2, block - 1, block, block + 1, 2 * block, 2 * block + 1)
    cases = [
        yardstick.draw(block + 5, limit, mode)
        for limit, mode in zip(limits, seven(modes), strict=True)
    ]
    yardstick.compare(cases, bench.engine(family).run(cases, every=1))


@kinds()
def test_stop_token_at_many_places(
    family: Family, modes: tuple[Mode, ...], bench: FamilyBench
) -> None:
    """A stop token anywhere in a block or a draft, alone or among many."""
    yardstick = EndingYardstick(family, bench.checkpoint(family))
    for mode in modes[-2:]:
        free = yardstick.endless(19, 24, mode)
        ids = list(dict.fromkeys(yardstick(free).tokens))[::3]
        cases = [replace(free, stop_ids=(stop,)) for stop in ids]
        cases.append(replace(free, stop_ids=(*range(500, 508), ids[-1])))
        outcomes = bench.engine(family).run(cases)
        yardstick.compare(cases, outcomes)
        assert {outcome.reason for outcome in outcomes} == {"stop"}
        assert len({len(outcome.tokens) for outcome in outcomes}) == len(ids)


@kinds("block-causal", "canvas", "speculation", "full")
def test_end_of_sequence(
    family: Family,
    modes: tuple[Mode, ...],
    bench: FamilyBench,
    engines: EnginePool,
    tmp_path: Path,
) -> None:
    """A model whose end of sequence is a token that it likes, with and without ``ignore_eos``."""
    plain = EndingYardstick(family, bench.checkpoint(family))
    free = plain.endless(13, 30, modes[0])
    end = plain(free).tokens[12]
    folder = write(family, tmp_path / "likes-to-end", eos_token_id=end)
    yardstick = EndingYardstick(family, folder, eos_id=end)
    cases = [replace(free, ignore_eos=False), free]
    outcomes = engines(folder, **family.engine_options).run(cases)
    yardstick.compare(cases, outcomes)
    assert [outcome.reason for outcome in outcomes] == ["stop", "length"]
    assert len(outcomes[0].tokens) <= 13 < len(outcomes[1].tokens)


@kinds()
def test_model_length(family: Family, modes: tuple[Mode, ...], bench: FamilyBench) -> None:
    """The context ends inside of a canvas, which is cut; aligned blocks end before it."""
    engine = bench.engine(family, max_model_len=125)
    limit = engine.engine.model_config.max_model_len
    grain = family.block if family in (FAST, LLADA2) else 1
    assert limit == 125 // grain * grain
    yardstick = bench.yardstick(family, limit)
    rooms = (1, 2, 5, 8, 13, 20, 30)
    cases = [
        yardstick.draw(limit - room, 100, mode)
        for room, mode in zip(rooms, seven(modes), strict=True)
    ]
    outcomes = engine.run(cases)
    yardstick.compare(cases, outcomes)
    for room, outcome in zip(rooms, outcomes, strict=True):
        assert outcome.reason == "stop" or len(outcome.tokens) == room
