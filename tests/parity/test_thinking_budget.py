"""Thoughts end exactly where their budget does, in every mask group, batch and schedule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from tests.checkpoints import dream, fast_dllm_v2, llada, nemotron_labs, sdar
from tests.checkpoints.tokenizer import THINK_END, THINK_IDS, THINK_START, teach_thinking
from tests.parity.cases import random_tokens
from tests.parity.engines import Engine, EnginePool, Outcome

START, END = THINK_IDS[THINK_START], THINK_IDS[THINK_END]
MODULES = (sdar, fast_dllm_v2, nemotron_labs, llada, dream)
BUDGETS = (0, 1, 7, 16, 21, 40)
MAX_TOKENS = 60
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "is": {"type": "boolean"}},
    "required": ["name", "is"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[ModuleType, Path]:
    base = tmp_path_factory.mktemp("thinking")
    return {
        module: teach_thinking(module.write(base / module.__name__, tokenizer=True))
        for module in MODULES
    }


def open_engine(pool: EnginePool, folder: Path, **options: Any) -> Engine:
    settings: dict[str, Any] = {"skip_tokenizer_init": False, "max_num_seqs": 16}
    settings |= {"reasoning_parser": "deepseek_r1", "max_model_len": 256}
    return pool(folder, **settings | options)


def ask(
    engine: Engine, requests: Sequence[dict[str, Any]], max_tokens: int = MAX_TOKENS
) -> list[Outcome]:
    """Answers to these requests, each to another prompt that ends with the start of thoughts."""
    from vllm.sampling_params import StructuredOutputsParams

    for number, fields in enumerate(requests):
        turn = fields.get("turn", number)
        prompt = (*random_tokens(5 + 3 * turn, turn), START)
        budget, has_grammar = fields.get("budget"), fields.get("has_grammar", False)
        extra = {f"diffusion_{k}": v for k, v in fields.get("decode", {}).items()}
        engine.add(
            str(number),
            prompt[: -1 if fields.get("is_plain") else None],
            temperature=fields.get("temperature", 0.0),
            seed=turn,
            max_tokens=max_tokens,
            ignore_eos=not has_grammar,
            detokenize=has_grammar,
            thinking_token_budget=budget,
            structured_outputs=StructuredOutputsParams(json=SCHEMA) if has_grammar else None,
            extra_args=extra or None,
        )
    engine.drain()
    return [engine.outcomes(str(number))[0] for number in range(len(requests))]


def answer_of(engine: Engine, name: str, tokens: list[int]) -> Any:
    """The JSON behind the thoughts."""
    text: str = engine.llm.get_tokenizer().decode(
        tokens[tokens.index(END) + 1 :], skip_special_tokens=True
    )
    value = json.loads(text)
    jsonschema.validate(value, SCHEMA)
    return value


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.rpartition(".")[2])
@pytest.mark.parametrize("decode", [{}, {"policy": "confidence", "threshold": 0.0}], ids=str)
def test_thoughts_are_those_without_a_budget_until_it_ends(
    pool: EnginePool, folders: dict[ModuleType, Path], module: ModuleType, decode: dict[str, Any]
) -> None:
    engine = open_engine(pool, folders[module])
    unbounded = ask(engine, [{"turn": n, "decode": decode} for n in range(len(BUDGETS))])
    bounded = ask(
        engine, [{"turn": n, "decode": decode, "budget": b} for n, b in enumerate(BUDGETS)]
    )
    for budget, free, held in zip(BUDGETS, unbounded, bounded, strict=True):
        assert len(held.tokens) == MAX_TOKENS
        assert held.reason == "length"
        end = min(budget, free.tokens.index(END) if END in free.tokens else budget)
        assert held.tokens[: end + 1] == [*free.tokens[:end], END]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_a_grammar_behind_the_thoughts(
    pool: EnginePool, folders: dict[ModuleType, Path], module: ModuleType
) -> None:
    """With a marker in front of the thoughts and without: they end all the same."""
    engine = open_engine(pool, folders[module])
    wanted = [
        {"budget": b, "has_grammar": True, "temperature": 1.5 * (n % 2), "is_plain": n % 3 == 0}
        for n, b in enumerate((0, 3, 8, 17))
    ]
    for number, outcome in enumerate(ask(engine, wanted, max_tokens=120)):
        assert outcome.tokens.index(END) <= wanted[number]["budget"]
        assert outcome.reason == "stop"
        answer_of(engine, str(number), outcome.tokens)


def test_without_thoughts_a_budget_does_nothing(
    pool: EnginePool, folders: dict[ModuleType, Path]
) -> None:
    engine = open_engine(pool, folders[sdar])
    free = ask(engine, [{"is_plain": True}, {"is_plain": True}])
    assert START not in free[0].tokens + free[1].tokens
    held = ask(engine, [{"is_plain": True, "budget": 5}, {"is_plain": True, "budget": 0}])
    assert [outcome.tokens for outcome in held] == [outcome.tokens for outcome in free]
    assert [outcome.steps for outcome in held] == [outcome.steps for outcome in free]


@pytest.mark.parametrize("module", [sdar, nemotron_labs], ids=["sdar", "nemotron_labs"])
def test_others_in_the_batch_are_not_touched(
    pool: EnginePool, folders: dict[ModuleType, Path], module: ModuleType
) -> None:
    engine = open_engine(pool, folders[module])
    mixed: list[dict[str, Any]] = [
        {},
        {"budget": 9},
        {"budget": 20, "has_grammar": True},
        {"temperature": 1.5},
        {"budget": 30, "temperature": 1.5},
        {"has_grammar": True},
    ]
    together = ask(engine, mixed)
    alone = [ask(engine, [fields | {"turn": n}])[0] for n, fields in enumerate(mixed)]
    assert [outcome.tokens for outcome in together] == [outcome.tokens for outcome in alone]


def test_preempted(pool: EnginePool, folders: dict[ModuleType, Path]) -> None:
    """A request that starts over has thought what it has thought."""
    wanted = [
        {"budget": budget, "has_grammar": n % 2 == 1}
        for n, budget in enumerate((50, 45, 90, 80, 75))
    ]
    expected = ask(open_engine(pool, folders[sdar]), wanted, max_tokens=140)
    scarce = open_engine(pool, folders[sdar], max_model_len=192, num_gpu_blocks_override=9)
    found = ask(scarce, wanted, max_tokens=140)
    assert scarce.preempted
    assert [outcome.tokens for outcome in found] == [outcome.tokens for outcome in expected]


def test_logprobs_of_a_forced_end(pool: EnginePool, folders: dict[ModuleType, Path]) -> None:
    engine = open_engine(pool, folders[sdar])
    engine.add(
        "0",
        [*random_tokens(6, 1), START],
        temperature=0.0,
        max_tokens=20,
        ignore_eos=True,
        logprobs=2,
        thinking_token_budget=5,
    )
    engine.drain()
    (completion,) = engine.finished["0"].outputs
    assert completion.token_ids[5] == END
    for token, scores in zip(completion.token_ids, completion.logprobs, strict=True):
        assert scores[token].logprob <= 0
