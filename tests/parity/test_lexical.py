"""Texts hold their keywords, nothing that is kept out, and have their length: always."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from vllm.exceptions import VLLMValidationError

from tests.checkpoints import llada, nemotron_labs, sdar
from tests.parity.engines import Engine, EnginePool
from tests.parity.test_structured import ACCEPTANCE, TEMPERATURES, open_engine

MODULES = (sdar, nemotron_labs, llada)
NUM_WORDINGS = int(os.environ.get("VLLM_DIFFUSION_TEST_WORDINGS", "24"))
WORDS = ("fox", "the lazy dog", "überall", "数量", "naïve", "x", "Zebra 12", "a\nb", "abab", "baba")
LETTERS = ("e", "qu", "th", " ", "z", "é", "ab a", "\n", "数", "ing", "0", "...")


def wordings(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Fields of ``count`` requests, prefix left out; each can be met with some ninety tokens."""
    for index in range(count):
        rng = Random(f"{seed}/{index}")
        keywords = rng.sample(WORDS, rng.randrange(0, 4))
        without = [t for t in rng.sample(LETTERS, 3) if not any(t in word for word in keywords)]
        said: dict[str, Any] = {"keywords": keywords, "without": without}
        needed = sum(map(len, keywords)) + len(keywords)
        if rng.random() < 0.6:
            said["max_chars"] = needed + rng.randrange(1, 40)
        if rng.random() < 0.5:
            said["min_chars"] = rng.randrange(0, min(said.get("max_chars", 45), 45) + 1)
        yield said


def problem(text: str, said: dict[str, Any]) -> str | None:
    missing = [word for word in said["keywords"] if word not in text]
    held = [word for word in said["without"] if word in text]
    is_long = said.get("min_chars", 0) <= len(text) <= said.get("max_chars", 10**6)
    return None if not missing and not held and is_long else f"{said}: {text!r}"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[ModuleType, Path]:
    """Random checkpoints with tokenizers."""
    base = tmp_path_factory.mktemp("wording")
    return {module: module.write(base / module.__name__, tokenizer=True) for module in MODULES}


def ask(
    engine: Engine, wanted: list[dict[str, Any]], max_tokens: int = 96, shift: int = 0
) -> tuple[list[str], list[str | None]]:
    """The texts of requests that say this of their words, each with another way to decode."""
    for number, said in enumerate(wanted):
        turn = number + shift
        fields = ACCEPTANCE[turn % len(ACCEPTANCE)] | said
        engine.add(
            str(number),
            [20 + turn % 7] * (turn % 40 + 1),
            temperature=TEMPERATURES[turn % 2],
            seed=turn,
            max_tokens=max_tokens,
            detokenize=True,
            extra_args={f"diffusion_{key}": value for key, value in fields.items()},
        )
    engine.drain()
    outputs = [engine.finished[str(number)].outputs[0] for number in range(len(wanted))]
    return [output.text for output in outputs], [output.finish_reason for output in outputs]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_what_is_asked_of_words_holds(
    pool: EnginePool, folders: dict[ModuleType, Path], module: ModuleType
) -> None:
    first = MODULES.index(module) * NUM_WORDINGS
    wanted = list(wordings(first + NUM_WORDINGS))[first:]
    texts, reasons = ask(open_engine(pool, folders[module]), wanted, shift=first)
    assert not [p for t, said in zip(texts, wanted, strict=True) if (p := problem(t, said))]
    assert set(reasons) == {"stop"}


def test_as_few_tokens_as_the_words_take(pool: EnginePool, folders: dict[ModuleType, Path]) -> None:
    """Requests are refused up to some number of tokens, and honoured from there on."""
    engine = open_engine(pool, folders[sdar])
    for said in wordings(12, seed=1):
        for max_tokens in range(1, 120):
            try:
                texts, reasons = ask(engine, [said] * 2, max_tokens, shift=max_tokens)
            except VLLMValidationError as error:
                assert "raise max_tokens" in str(error)  # noqa: PT017
                continue
            assert not [p for text in texts if (p := problem(text, said))]
            assert reasons == ["stop"] * 2
            break


def test_small_chunks_and_others_in_the_batch(
    pool: EnginePool, folders: dict[ModuleType, Path]
) -> None:
    engine = open_engine(pool, folders[sdar])
    wanted = list(wordings(5, seed=2))
    mixed = [{}, wanted[0], wanted[1], {}, *wanted[2:]]
    together, _ = ask(engine, mixed)
    alone = [ask(engine, [said], shift=number)[0][0] for number, said in enumerate(mixed)]
    assert together == alone
    chunked = open_engine(pool, folders[sdar], max_num_batched_tokens=64, max_num_seqs=4)
    assert ask(chunked, mixed)[0] == together


def test_preempted(pool: EnginePool, folders: dict[ModuleType, Path]) -> None:
    """A request that starts over knows what its text has held so far."""
    wanted = [
        {"keywords": ["fox", "dog"], "without": ["q"], "min_chars": 120 + n} for n in range(4)
    ]
    short = {"max_model_len": 192}
    expected, _ = ask(open_engine(pool, folders[sdar], **short), wanted, max_tokens=140)
    engine = open_engine(pool, folders[sdar], num_gpu_blocks_override=8, **short)
    texts, _ = ask(engine, wanted, max_tokens=140)
    assert engine.preempted
    assert texts == expected
    assert not [p for t, said in zip(texts, wanted, strict=True) if (p := problem(t, said))]
