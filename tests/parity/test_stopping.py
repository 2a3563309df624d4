"""Ends inside of a block: token limits, stop tokens, the model's length; and odd prompts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.checkpoints import sdar
from tests.parity.cases import MASK, Case, Rule, Yardstick, random_tokens
from tests.parity.engines import EnginePool

Yardsticks = Callable[[int | Path], Yardstick]


@pytest.mark.parametrize("block", [4, 16])
@pytest.mark.parametrize("length", [6, 16])
def test_every_token_limit(
    block: int, length: int, engines: EnginePool, yardstick: Yardsticks
) -> None:
    reference = yardstick(block)
    cases = [reference.draw(length, limit, block) for limit in range(1, 2 * block + 2)]
    outcomes = engines(block).run(cases, every=1)
    reference.compare(cases, outcomes)
    assert [len(outcome.tokens) for outcome in outcomes] == [case.max_tokens for case in cases]


@pytest.mark.parametrize(
    "rule", [Rule(), Rule(threshold=0.2), Rule("static", max_steps=3)], ids=str
)
@pytest.mark.parametrize("block", [4, 16])
def test_stop_token_at_every_place(
    block: int, rule: Rule, engines: EnginePool, yardstick: Yardsticks
) -> None:
    """Every token of an answer in turn is a stop token, alone or among many."""
    reference = yardstick(block)
    free = reference.draw(19, 2 * block + 5, block, rule=rule, ignore_eos=True)
    ids = sorted(set(reference(free).tokens))
    cases = [replace(free, stop_ids=(stop,)) for stop in ids]
    cases += [replace(free, stop_ids=(*range(500, 508), stop)) for stop in ids[:3]]
    outcomes = engines(block).run(cases)
    reference.compare(cases, outcomes)
    for case, outcome in zip(cases, outcomes, strict=True):
        assert outcome.tokens[-1] in case.stop_ids
    assert {outcome.reason for outcome in outcomes} == {"stop"}


def test_stop_tokens_in_the_prompt_do_not_stop(engines: EnginePool, yardstick: Yardsticks) -> None:
    reference = yardstick(8)
    cases = []
    for length in range(9, 17):
        free = reference.draw(length, 12, 8, ignore_eos=True)
        unused = next(t for t in free.prompt[8:] if t not in reference(free).tokens)
        cases.append(replace(free, stop_ids=(unused,)))
    outcomes = engines(8).run(cases)
    reference.compare(cases, outcomes)
    assert {outcome.reason for outcome in outcomes} == {"length"}


def test_end_of_sequence(engines: EnginePool, yardstick: Yardsticks, tmp_path: Path) -> None:
    """A model whose end of sequence is a token that it likes, with and without ``ignore_eos``."""
    plain = yardstick(8)
    free = plain.draw(13, 30, 8, ignore_eos=True)
    end = plain(free).tokens[12]
    folder = sdar.write(tmp_path / "likes-to-stop", block_size=8, eos_token_id=end)
    reference = yardstick(folder)
    cases = [replace(free, ignore_eos=False), free]
    outcomes = engines(folder).run(cases)
    reference.compare(cases, outcomes)
    assert [outcome.reason for outcome in outcomes] == ["stop", "length"]
    assert len(outcomes[0].tokens) <= 13 < len(outcomes[1].tokens)


@pytest.mark.parametrize(("block", "asked"), [(16, 111), (8, 97)])
def test_model_length(
    block: int,
    asked: int,
    engines: EnginePool,
    yardstick: Yardsticks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit is rounded down to whole blocks; text ends there, longer prompts are refused."""
    from vllm.exceptions import VLLMClientError

    from vllm_diffusion.startup import notices

    lines: list[str] = []
    monkeypatch.setattr(
        notices.logger, "log", lambda level, text, *values: lines.append(text % values)
    )
    reference = yardstick(block)
    engine = engines(block, max_model_len=asked)
    assert [line for line in lines if f"--max-model-len is 96 instead of {asked}" in line]
    assert engine.engine.model_config.max_model_len == 96
    cases = [
        reference.draw(length, 100, block, max_len=96, ignore_eos=True)
        for length in (60, 79, 80, 95)
    ]
    outcomes = engine.run(cases)
    reference.compare(cases, outcomes)
    assert [len(outcome.tokens) for outcome in outcomes] == [36, 17, 16, 1]
    assert {outcome.reason for outcome in outcomes} == {"length"}
    for length in (96, asked):
        with pytest.raises(VLLMClientError, match=r"length (of|is) 96"):
            engine.add("too-long", random_tokens(length, 0), max_tokens=1)


def test_pages_of_odd_blocks(engines: EnginePool, yardstick: Yardsticks) -> None:
    """Blocks of 12 do not divide vLLM's pages of 128 tokens: pages become longer."""
    reference = yardstick(12)
    engine = engines(12, block_size=None, max_model_len=1024)
    assert engine.scheduler.block_size == 384
    cases = [reference.draw(length, 30, 12, max_len=1020) for length in (1, 11, 12, 13, 127, 400)]
    for cached in (0, 384):
        outcomes = engine.run(cases)
        reference.compare(cases, outcomes)
        assert outcomes[-1].cached == cached


@pytest.mark.parametrize("block", [4, 16])
def test_mask_token_in_the_prompt(block: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    """It is a token like any other: never denoised, and never generated.

    Near-ties are no accident here: where a block and all before it are masks, every
    value is the same, so attention gives every position the same logits.
    """
    reference = yardstick(block)
    cases = []
    for length in range(1, 2 * block + 2, 1 if block == 4 else 3):
        for places in ([length - 1], [0], range(length), range(length // 2, length)):
            prompt = list(random_tokens(length, 0))
            for place in places:
                prompt[place] = MASK
            cases.append(Case(prompt=tuple(prompt), max_tokens=block + 3, block=block))
    cases = reference.only_clear(list(dict.fromkeys(cases)))
    outcomes = engines(block).run(cases)
    reference.compare(cases, outcomes)
    assert not any(MASK in outcome.tokens for outcome in outcomes)
