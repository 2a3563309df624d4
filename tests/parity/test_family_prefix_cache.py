"""Shared pages: final K and V alone, also where a page ends inside of a canvas."""

from __future__ import annotations

import pytest

from tests.parity.cases import MIN_SLACK, random_tokens
from tests.parity.engines import PAGE
from tests.parity.families import Family, FamilyCase, FamilyYardstick, Mode
from tests.parity.family_bench import NEMOTRON, FamilyBench, kinds, make_bench

bench = pytest.fixture(scope="module")(make_bench)

# The page that ends at 64 ends inside of a canvas, at each of its places.
LENGTHS = range(33, 65)


def whole_pages(num_tokens: int) -> int:
    return num_tokens // PAGE * PAGE


def going_on(yardstick: FamilyYardstick, case: FamilyCase, num_new: int = 5) -> FamilyCase:
    """A request whose prompt is all of another one's text and something new."""
    text = case.prompt + tuple(yardstick(case).tokens)
    tries = (
        FamilyCase(prompt=text + random_tokens(num_new, seed), max_tokens=5, mode=case.mode)
        for seed in range(100)
    )
    return next(case for case in tries if yardstick(case).slack >= MIN_SLACK)


def last_start(family: Family, case: FamilyCase, length: int) -> int:
    """Where the last canvas of a text of ``length`` started: all before it is final."""
    origin = 0 if family is not NEMOTRON else len(case.prompt)
    return origin + (length - 1 - origin) // family.block * family.block


@kinds("block-causal", "edits", "canvas")
def test_generated_text_hits(family: Family, modes: tuple[Mode, ...], bench: FamilyBench) -> None:
    """Up to the last block, whose K and V never became final, also where that fills a page."""
    yardstick, engine = bench.yardstick(family), bench.engine(family)
    # Where blocks start at token 0, the prompt's length makes no difference to pages.
    lengths = LENGTHS if family is NEMOTRON else LENGTHS[::6]
    firsts = [yardstick.draw(n, 34, modes[n % len(modes)]) for n in lengths]
    yardstick.compare(firsts, engine.run(firsts))
    seconds = [going_on(yardstick, case) for case in firsts]
    outcomes = engine.run(seconds)
    yardstick.compare(seconds, outcomes)
    for first, second, outcome in zip(firsts, seconds, outcomes, strict=True):
        final = last_start(family, first, len(second.prompt) - 5)
        assert outcome.cached == whole_pages(final) > 0, len(first.prompt)


@kinds("speculation")
def test_verified_text_hits(family: Family, modes: tuple[Mode, ...], bench: FamilyBench) -> None:
    """All but what the last verification emitted."""
    yardstick, engine = bench.yardstick(family), bench.engine(family)
    firsts = [yardstick.draw(n, 34, modes[0]) for n in LENGTHS[::2]]
    yardstick.compare(firsts, engine.run(firsts))
    seconds = [going_on(yardstick, case) for case in firsts]
    outcomes = engine.run(seconds)
    yardstick.compare(seconds, outcomes)
    for second, outcome in zip(seconds, outcomes, strict=True):
        length = len(second.prompt) - 5
        assert outcome.cached in (whole_pages(length - 1), whole_pages(length - family.block))


@kinds("block-causal", "canvas", "speculation")
def test_text_that_is_being_written(
    family: Family, modes: tuple[Mode, ...], bench: FamilyBench
) -> None:
    """In every step of one request another one comes that starts with the text so far."""
    yardstick, engine = bench.yardstick(family), bench.engine(family, max_num_seqs=64)
    writer = yardstick.draw(37, 70, modes[-1])
    text = writer.prompt + tuple(yardstick(writer).tokens)
    tries = [
        FamilyCase(prompt=text[:length], max_tokens=3, mode=modes[0])
        for length in range(38, len(text), 3)
    ]
    readers = [case for case in tries if yardstick(case).slack >= MIN_SLACK]
    cases = [writer, *readers]
    outcomes = engine.run(cases, every=2)
    yardstick.compare(cases, outcomes)
    assert sum(outcome.cached > 0 for outcome in outcomes) > len(cases) // 2


@kinds("full", "full-shifted")
def test_full_attention_never_hits(
    family: Family, modes: tuple[Mode, ...], bench: FamilyBench
) -> None:
    """The K and V of a prompt depend on what follows, even if a server asks for a cache."""
    yardstick = bench.yardstick(family)
    engine = bench.engine(family, enable_prefix_caching=True)
    assert not engine.engine.vllm_config.cache_config.enable_prefix_caching
    first = yardstick.draw(70, 20, modes[0])
    cases = [first, first, going_on(yardstick, first), yardstick.draw(70, 33, modes[-1])]
    outcomes = engine.run_alone(cases) + engine.run(cases)
    yardstick.compare(cases * 2, outcomes)
    assert not any(outcome.cached for outcome in outcomes)
