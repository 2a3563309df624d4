"""Structured output is valid: random weights, any temperature, acceptance, mask group, batch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from tests.checkpoints import llada, nemotron_labs, sdar
from tests.parity.engines import Engine, EnginePool, Outcome
from tests.structured.schemas import schemas
from tests.structured.texts import grammars, parses, regexes
from vllm_diffusion.isolation.failures import MESSAGES, PREFIX, Failure
from vllm_diffusion.sampling.logits_ops import LogitsOps
from vllm_diffusion.scheduler.scheduler import BlockDiffusionScheduler
from vllm_diffusion.structured.dfa_matcher import TokenDfaMatcher
from vllm_diffusion.worker.grammars import Grammars
from vllm_diffusion.worker.matchers import Matchers

# ``VLLM_DIFFUSION_TEST_SCHEMAS=200`` is the whole collection for each family.
NUM_SCHEMAS = int(os.environ.get("VLLM_DIFFUSION_TEST_SCHEMAS", "32"))
MODULES = (sdar, nemotron_labs, llada)
ACCEPTANCE = (
    {"policy": "static"},
    {"policy": "confidence", "threshold": 0.9},
    {"policy": "confidence", "threshold": 0.0},
    {"policy": "margin", "threshold": 0.1},
    {"policy": "entropy", "threshold": 30.0},
)
TEMPERATURES = (0.0, 1.5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random checkpoints with tokenizers."""
    base = tmp_path_factory.mktemp("structured")
    written = {}
    for module in MODULES:
        name = module.__name__.rpartition(".")[2]
        written[name] = module.write(base / name, tokenizer=True)
    return written


def open_engine(pool: EnginePool, folder: Path, **options: Any) -> Engine:
    settings = {"skip_tokenizer_init": False, "max_num_seqs": 16}
    return pool(folder, **settings | {"max_model_len": 512} | options)


def ask(
    engine: Engine, constraints: Sequence[dict[str, Any]], max_tokens: int = 96, shift: int = 0
) -> tuple[list[str], list[Outcome]]:
    """The texts of requests with these constraints, each with another way to decode."""
    from vllm.sampling_params import StructuredOutputsParams

    for number, constraint in enumerate(constraints):
        turn = number + shift
        fields = ACCEPTANCE[turn % len(ACCEPTANCE)]
        engine.add(
            str(number),
            [20 + turn % 7] * (turn % 40 + 1),
            temperature=TEMPERATURES[turn % 2],
            seed=turn,
            max_tokens=max_tokens,
            detokenize=True,
            structured_outputs=StructuredOutputsParams(**constraint) if constraint else None,
            extra_args={f"diffusion_{key}": value for key, value in fields.items()},
        )
    engine.drain()
    numbers = range(len(constraints))
    texts = [engine.finished[str(number)].outputs[0].text for number in numbers]
    return texts, [engine.outcomes(str(number))[0] for number in numbers]


def problem(text: str, schema: dict[str, Any]) -> str | None:
    try:
        jsonschema.validate(json.loads(text), schema)
    except (json.JSONDecodeError, jsonschema.ValidationError) as error:
        return f"{json.dumps(schema, ensure_ascii=False)}: {text!r}: {error}"
    return None


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_json(pool: EnginePool, folders: dict[str, Path], module: ModuleType) -> None:
    """Every schema is met, within ``max_tokens``, and followed by the stop token."""
    engine = open_engine(pool, folders[module.__name__.rpartition(".")[2]])
    # Each family another part of the collection, unless all of it is asked for.
    first = 0 if NUM_SCHEMAS >= 200 else MODULES.index(module) * NUM_SCHEMAS
    wanted = list(schemas(first + NUM_SCHEMAS))[first:]
    texts, outcomes = ask(engine, [{"json": schema} for schema in wanted], shift=first)
    problems = [problem(text, schema) for text, schema in zip(texts, wanted, strict=True)]
    assert not [found for found in problems if found]
    assert {outcome.reason for outcome in outcomes} == {"stop"}


def test_regexes(pool: EnginePool, folders: dict[str, Path]) -> None:
    wanted = list(regexes(100 if NUM_SCHEMAS >= 200 else 40))
    texts, _ = ask(open_engine(pool, folders["sdar"]), [{"regex": regex} for regex in wanted])
    pairs = zip(texts, wanted, strict=True)
    assert not [(regex, text) for text, regex in pairs if not re.fullmatch(regex, text)]


def test_grammars(pool: EnginePool, folders: dict[str, Path]) -> None:
    wanted = list(grammars(50))
    texts, _ = ask(open_engine(pool, folders["sdar"]), [{"grammar": text} for text in wanted])
    pairs = zip(texts, wanted, strict=True)
    assert not [(grammar, text) for text, grammar in pairs if not parses(grammar, text)]


def test_choices(pool: EnginePool, folders: dict[str, Path]) -> None:
    wanted = [["yes", "no"], ["émile", "数量", "é"], ["a", "ab", "abc"], ["only this"]] * 3
    texts, _ = ask(open_engine(pool, folders["sdar"]), [{"choice": choice} for choice in wanted])
    assert all(text in choice for text, choice in zip(texts, wanted, strict=True))


def test_every_mechanism_in_one_batch(pool: EnginePool, folders: dict[str, Path]) -> None:
    """Automata over tokens and over bytes, and llguidance's parser."""
    multiple = {"type": "array", "items": {"type": "integer", "multipleOf": 7}, "minItems": 3}
    long = {"type": "string", "maxLength": 700}
    wanted = [{"type": "string", "maxLength": 9}, multiple, {"enum": ["a", 7]}, long] * 2
    engine = open_engine(pool, folders["sdar"], max_model_len=256)
    texts, _ = ask(engine, [{"json": schema} for schema in wanted])
    assert not [p for t, s in zip(texts, wanted, strict=True) if (p := problem(t, s))]


def test_others_in_the_batch_are_not_touched(pool: EnginePool, folders: dict[str, Path]) -> None:
    """Free requests answer alone as among guided ones, and guided ones as well."""
    engine = open_engine(pool, folders["sdar"])
    schema = {"json": {"type": "object", "properties": {"name": {"type": "string"}}}}
    mixed: list[dict[str, Any]] = [{}, schema, {}, {"regex": "[a-f]{20}"}, {}, schema]
    together, _ = ask(engine, mixed, max_tokens=40)
    alone = [ask(engine, [one], max_tokens=40, shift=n)[0][0] for n, one in enumerate(mixed)]
    assert together == alone


@pytest.mark.parametrize("options", [{"max_num_batched_tokens": 64, "max_num_seqs": 4}])
def test_small_chunks(pool: EnginePool, folders: dict[str, Path], options: dict[str, Any]) -> None:
    engine = open_engine(pool, folders["sdar"])
    constraints = [{"json": schema} for schema in schemas(8, seed=1)]
    expected, _ = ask(engine, constraints)
    chunked, _ = ask(open_engine(pool, folders["sdar"], **options), constraints)
    assert chunked == expected


def test_preempted(pool: EnginePool, folders: dict[str, Path]) -> None:
    """A request that starts over goes on in the middle of its grammar."""
    constraints = [{"regex": f"[a-f ]{{{100 + n}}}([0-9]{{3}}-)+"} for n in range(4)]
    short = {"max_model_len": 192}
    expected, _ = ask(open_engine(pool, folders["sdar"], **short), constraints, max_tokens=140)
    engine = open_engine(pool, folders["sdar"], num_gpu_blocks_override=8, **short)
    texts, _ = ask(engine, constraints, max_tokens=140)
    assert engine.preempted
    assert texts == expected


BOUNDARIES = {
    "the engine core takes it over": (BlockDiffusionScheduler, "_open", Failure.PARAMETERS),
    "its sampling fields": (LogitsOps, "add", Failure.PARAMETERS),
    "the worker takes it over": (Grammars, "add", Failure.CONSTRAINT),
    "what may come": (TokenDfaMatcher, "fill", Failure.CONSTRAINT),
    "what has come": (TokenDfaMatcher, "accept", Failure.CONSTRAINT),
    "its end": (TokenDfaMatcher, "ending", Failure.CONSTRAINT),
}


def is_third(self: Any, *args: Any) -> bool:
    """Does a call at a boundary belong to the request that is to fail?"""
    if isinstance(self, TokenDfaMatcher):
        return bool(self.tables.is_marked)
    if isinstance(self, LogitsOps):
        return bool(args[1].seed == 3)
    request = args[0] if isinstance(self, BlockDiffusionScheduler) else args[1]
    name = getattr(request, "request_id", None) or request.req_id
    return str(name).startswith("3-")


@pytest.mark.parametrize("where", list(BOUNDARIES))
def test_an_error_ends_its_own_request(
    pool: EnginePool,
    folders: dict[str, Path],
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of eight requests seven get the text that they get without it."""
    constraints: list[dict[str, Any]] = [{"regex": f"[a-f]{{{20 + n}}}"} for n in range(6)]
    constraints += [{}, {"json": {"type": "object"}}]
    engine = open_engine(pool, folders["sdar"])
    expected, _ = ask(engine, constraints, max_tokens=40)
    owner, name, failure = BOUNDARIES[where]
    original, made, marks = getattr(owner, name), Matchers._tokens, iter(range(6))

    def mark(self: Matchers, *args: Any) -> Any:
        tables, size = made(self, *args)
        tables.is_marked = next(marks) == 3
        return tables, size

    def fail(self: Any, *args: Any) -> Any:
        if is_third(self, *args):
            raise RuntimeError("as a library would")
        return original(self, *args)

    runner = engine.core.model_executor.driver_worker.worker.model_runner
    runner.model_state.grammars.matchers._kept.clear()
    monkeypatch.setattr(Matchers, "_tokens", mark)
    monkeypatch.setattr(owner, name, fail)
    texts, outcomes = ask(engine, constraints, max_tokens=40)
    assert outcomes[3].reason == "error"
    assert engine.finished["3"].outputs[0].stop_reason == PREFIX + MESSAGES[failure]
    others = [number for number in range(8) if number != 3]
    assert [texts[n] for n in others] == [expected[n] for n in others]
    assert not engine.engine.has_unfinished_requests()
    runner.model_state.grammars.matchers._kept.clear()


@pytest.mark.slow
@pytest.mark.usefixtures("forked_ranks")
@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        ("sdar", {"tensor_parallel_size": 2}),
        ("sdar", {"pipeline_parallel_size": 2}),
        ("nemotron_labs", {"pipeline_parallel_size": 2}),
        ("llada", {"pipeline_parallel_size": 2}),
    ],
)
def test_two_ranks(
    name: str, ranks: dict[str, int], pool: EnginePool, folders: dict[str, Path]
) -> None:
    """Greedy texts and drawn ones, tokens and steps."""
    constraints = [{"json": schema} for schema in schemas(6, seed=3)]
    expected = ask(open_engine(pool, folders[name]), constraints)
    pool.close()
    assert ask(open_engine(pool, folders[name], **ranks), constraints) == expected
