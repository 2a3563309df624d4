"""Pages that are shared: between prompts, with generated text, within a step, and never wrongly."""

from collections.abc import Callable
from itertools import count

import pytest

from tests.parity.cases import Case, Rule, Yardstick, random_tokens
from tests.parity.engines import PAGE, EnginePool

Yardsticks = Callable[[int], Yardstick]


def whole_pages(num_tokens: int) -> int:
    return num_tokens // PAGE * PAGE


@pytest.mark.parametrize("block", [4, 16, 32])
def test_prompts_hit(block: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    reference, engine = yardstick(block), engines(block)
    cases = [reference.draw(n, block + 3, block) for n in (31, 32, 33, 64, 65, 96, 100)]
    first, second = engine.run(cases), engine.run(cases)
    reference.compare(cases, first)
    reference.compare(cases, second)
    assert [outcome.cached for outcome in first] == [0] * len(cases)
    # vLLM never takes a whole prompt from the cache.
    assert [outcome.cached for outcome in second] == [whole_pages(len(c.prompt) - 1) for c in cases]


@pytest.mark.parametrize("block", [4, 8, 16, 32])
def test_generated_text_hits(block: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    """Up to the last block, whose K and V never became final, also where that fills a page."""
    reference, engine = yardstick(block), engines(block)
    lasts = (64, 65, 64 + block, 95, 96, 97)
    firsts = [
        reference.draw(20 + number, last - 20 - number, block, ignore_eos=True)
        for number, last in enumerate(lasts)
    ]
    outcomes = engine.run(firsts)
    reference.compare(firsts, outcomes)
    texts = [c.prompt + tuple(out.tokens) for c, out in zip(firsts, outcomes, strict=True)]
    assert [len(text) for text in texts] == list(lasts)
    nexts = [
        reference.clear(
            lambda seed, text=text: Case(
                prompt=text + random_tokens(5, seed), max_tokens=block + 3, block=block
            )
        )
        for text in texts
    ]
    outcomes = engine.run(nexts)
    reference.compare(nexts, outcomes)
    final = [(last - 1) // block * block for last in lasts]
    assert [outcome.cached for outcome in outcomes] == [whole_pages(n) for n in final]


def test_turns_of_a_conversation(engines: EnginePool, yardstick: Yardsticks) -> None:
    reference, engine = yardstick(8), engines(8)
    prompt, was_cached = random_tokens(11, 0), 0
    for _ in range(6):
        case = reference.clear(
            lambda seed, prompt=prompt: Case(
                prompt=prompt + random_tokens(9, seed), max_tokens=30, block=8
            )
        )
        outcome = engine.run([case])[0]
        reference.compare([case], [outcome])
        assert outcome.cached >= was_cached
        prompt, was_cached = case.prompt + tuple(outcome.tokens), outcome.cached
    assert was_cached > 100


@pytest.mark.parametrize("block", [4, 16])
def test_same_prompt_in_one_step(block: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    """Later requests read pages that the same forward is still writing."""
    reference = yardstick(block)
    case = reference.draw(101, block + 3, block)
    outcomes = engines(block).run([case] * 6)
    reference.compare([case] * 6, outcomes)
    assert [outcome.cached for outcome in outcomes] == [0] + [96] * 5


@pytest.mark.parametrize("block", [4, 16])
def test_text_that_is_being_written(block: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    """In every step of one request another one comes that starts with all of its text."""
    reference = yardstick(block)
    writer = reference.draw(40, 100, block, rule=Rule(threshold=0.2), ignore_eos=True)
    text = writer.prompt + tuple(reference(writer).tokens)
    readers = [
        Case(prompt=text[:length], max_tokens=3, block=block)
        for length in range(41, 140, 1 if block == 4 else 3)
    ]
    cases = [writer, *reference.only_clear(readers)]
    outcomes = engines(block, max_num_seqs=64).run(cases, every=1)
    reference.compare(cases, outcomes)
    assert sum(outcome.cached > 0 for outcome in outcomes) > len(cases) // 2


def all_lengths(reference: Yardstick, blocks: tuple[int, ...]) -> list[Case]:
    """One prompt of 100 tokens that is clear with each of these block lengths."""

    def make(seed: int) -> list[Case]:
        prompt = random_tokens(100, seed)
        return [Case(prompt=prompt, max_tokens=20, block=b, served=16) for b in blocks]

    tries = map(make, count())
    return next(cases for cases in tries if all(map(reference.is_clear, cases)))


def test_block_lengths_never_share(engines: EnginePool, yardstick: Yardsticks) -> None:
    reference = yardstick(16)
    cases = all_lengths(reference, (16, 4, 8)) * 2
    outcomes = engines(16).run_alone(cases)
    reference.compare(cases, outcomes)
    assert [outcome.cached for outcome in outcomes] == [0, 0, 0, 96, 96, 96]


@pytest.mark.parametrize("salt", ["/block_length=4", "4", "4/", "a/block_length=4", "4/a"])
def test_salt_is_no_way_around(salt: str, engines: EnginePool, yardstick: Yardsticks) -> None:
    """Whatever salt a client sends, it gets no pages of another block length."""
    reference, engine = yardstick(16), engines(16)
    full, short = all_lengths(reference, (16, 4))
    for number, other in enumerate([None, "a", salt]):
        engine.add(f"short-{number}", short.prompt, salt=other, **short.arguments())
    engine.drain()
    for cached in (0, 96):
        engine.add("full", full.prompt, salt=salt, **full.arguments())
        engine.drain()
        reference.compare([full], engine.outcomes("full"))
        assert engine.outcomes("full")[0].cached == cached


def test_without_a_cache(engines: EnginePool, yardstick: Yardsticks) -> None:
    reference, engine = yardstick(16), engines(16, enable_prefix_caching=False)
    cases = all_lengths(reference, (16, 4, 8)) * 2
    outcomes = engine.run(cases)
    reference.compare(cases, outcomes)
    assert not any(outcome.cached for outcome in outcomes)
