"""Constraints compiled by other processes: in time and memory, once, and after a crash."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llguidance")
pytest.importorskip("msgspec")

import msgspec

from tests.unit.structured_inputs import LIMITS, tiny_spec, tiny_vocabulary
from vllm_diffusion.request.lexical import LexicalConstraints
from vllm_diffusion.structured import service as module
from vllm_diffusion.structured.compile_process import _answer
from vllm_diffusion.structured.compiled import Compiled
from vllm_diffusion.structured.compiler import Compiler
from vllm_diffusion.structured.constraint import Constraint, RefusedError
from vllm_diffusion.structured.lexical import spec_of
from vllm_diffusion.structured.limits import Limits
from vllm_diffusion.structured.service import CompileService, _Process

NAME = Constraint("regex", "[a-z]{1,9}")
REFUSED = Constraint("regex", "(")
SLOW = Constraint("regex", "(?:[a-f]{0,40}[d-j]{0,40}x?){40}")

PATIENT = replace(LIMITS, seconds=60.0)


@pytest.fixture(scope="module")
def process() -> Iterator[_Process]:
    """One compiling process, which tests end and start again."""
    made = _Process(tiny_spec(), PATIENT)
    yield made
    made.end()


def test_a_process_compiles_as_this_one_does(process: _Process) -> None:
    found = process.compile(NAME)
    here = Compiler(tiny_vocabulary(), PATIENT).compile(NAME)
    assert found.digest == here.digest
    assert found.ending == here.ending
    assert found.tokens is not None
    assert here.tokens is not None
    for field in fields(here.tokens):
        assert np.array_equal(getattr(found.tokens, field.name), getattr(here.tokens, field.name))
    with pytest.raises(RefusedError, match="cannot be read"):
        process.compile(REFUSED)
    assert process.child is not None
    assert process.child.poll() is None  # a refusal ends nothing


def test_a_process_that_was_killed_is_started_again(process: _Process) -> None:
    process.compile(NAME)
    child = process.child
    assert child is not None
    child.kill()
    child.wait()
    assert process.compile(NAME).tokens is not None
    assert process.child is not child


def test_what_takes_too_long_or_too_much_is_refused(process: _Process) -> None:
    """And the process that it has kept is ended."""
    process.compile(NAME)
    child = process.child
    assert child is not None
    process.limits = replace(PATIENT, seconds=0.001)
    start = time.monotonic()
    with pytest.raises(RefusedError, match=r"takes more than 0\.001 s.*\"seconds\""):
        process.compile(SLOW)
    assert time.monotonic() - start < 10.0
    assert child.poll() is not None
    assert process.child is None
    process.limits = PATIENT
    # The next one gets a process of its own, which may have so much memory and no more.
    assert process.compile(NAME).ending
    assert process.child is not None
    limits = Path(f"/proc/{process.child.pid}/limits").read_text()
    assert re.search(rf"Max address space +{PATIENT.memory_bytes} ", limits)


def test_what_a_process_answers() -> None:
    class Failing:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def compile(self, constraint: Constraint) -> None:
            raise self.error

    assert _answer(Failing(RefusedError("no", "/a")), NAME) == ("refused", "no (at /a)")
    assert _answer(Failing(MemoryError()), NAME) == ("memory", "")
    status, value = _answer(Failing(IndexError("x" * 5000)), NAME)
    assert status == "failed"
    assert str(value).startswith("IndexError: xxx")
    assert len(str(value)) < 400


class CountingProcess:
    """Compiles in this process, and counts."""

    made: list[Constraint]

    def __init__(self, spec: Any, limits: Limits) -> None:
        self.compiler = Compiler(tiny_vocabulary(), limits)

    def compile(self, constraint: Constraint) -> Compiled:
        self.made.append(constraint)
        if constraint.spec == "boom":
            raise OSError("cannot be started")
        return self.compiler.compile(constraint)

    def end(self) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileService]:
    monkeypatch.setattr(CountingProcess, "made", [], raising=False)
    monkeypatch.setattr(module, "_Process", CountingProcess)
    made = CompileService(tiny_spec(), replace(LIMITS, cache_bytes=400_000))
    yield made
    made.close()


def test_equal_constraints_are_compiled_once(service: CompileService) -> None:
    assert service.known(NAME) is None
    futures = [service.submit(NAME) for _ in range(8)]
    assert len({id(future.result()) for future in futures}) == 1
    assert service.compile(Constraint("regex", NAME.spec)) is service.known(NAME)
    assert CountingProcess.made == [NAME]
    service.compile(replace(NAME, is_closed=False))
    assert len(CountingProcess.made) == 2


def test_refusals_are_kept(service: CompileService) -> None:
    for _ in range(3):
        with pytest.raises(RefusedError, match="cannot be read"):
            service.compile(REFUSED)
    with pytest.raises(RefusedError, match="cannot be read"):
        service.known(REFUSED)
    assert CountingProcess.made == [REFUSED]


def test_other_errors_are_not_kept(service: CompileService) -> None:
    boom = Constraint("regex", "boom")
    for _ in range(2):
        with pytest.raises(OSError, match="cannot be started"):
            service.compile(boom)
    assert CountingProcess.made == [boom, boom]
    assert service.compile(NAME).ending


def test_the_oldest_are_forgotten_by_bytes(service: CompileService) -> None:
    specs = [Constraint("choice", json.dumps([f"text {n}"])) for n in range(12)]
    sizes = [service.compile(spec).num_bytes for spec in specs]
    assert sum(sizes) > 400_000
    kept = [spec for spec in specs if service.known(spec)]
    assert 0 < len(kept) < len(specs)
    assert kept == specs[-len(kept) :]
    assert sum(sizes[-len(kept) :]) <= 400_000
    # One that is larger than the cache is kept until the next one comes.
    large = Constraint("regex", "[ab]{3500}")
    assert service.compile(large).num_bytes > 0
    assert service.known(large) is not None


def test_a_future_is_gone_once_it_is_done(service: CompileService) -> None:
    future: Future[Compiled] = service.submit(NAME)
    future.result()
    deadline = time.monotonic() + 5
    while service.submit(NAME) is future and time.monotonic() < deadline:
        time.sleep(0.01)
    assert service.submit(NAME).result() is future.result()
    assert CountingProcess.made == [NAME]


CONSTRAINTS = [
    NAME,
    Constraint("choice", '["a", "é"]'),
    Constraint("json", '{"type": "object"}'),
    Constraint("json", '{"not": {"type": "null"}, "pattern": "^x+$"}'),
    Constraint("lexical", spec_of(LexicalConstraints(("é",), min_chars=3))),
]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=str)
@pytest.mark.parametrize("limits", [LIMITS, replace(LIMITS, edges=1)])
def test_what_is_compiled_travels(constraint: Constraint, limits: Limits) -> None:
    """Through the serializer that is between a front end and an engine."""
    before = Compiler(tiny_vocabulary(), limits).compile(constraint)
    data = msgspec.msgpack.decode(msgspec.msgpack.encode(before.pack()))
    after = Compiled.unpack(data)
    for name in ("digest", "ending", "is_shortest", "grammar", "hints", "lexical"):
        assert getattr(after, name) == getattr(before, name)
    for name in ("tokens", "dfa"):
        one, other = getattr(before, name), getattr(after, name)
        assert (one is None) == (other is None)
        for field in fields(one) if one is not None else ():
            mine, theirs = getattr(one, field.name), getattr(other, field.name)
            assert np.array_equal(mine, theirs)
            if isinstance(mine, np.ndarray):
                assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
    assert after.num_bytes == before.num_bytes > 0


def test_a_process_ends_with_its_front_end(process: _Process) -> None:
    process.compile(NAME)
    child = process.child
    assert child is not None
    assert process.connection is not None
    process.connection.close()
    assert child.wait(30) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_an_engines_services_end_with_it() -> None:
    """A process that makes one engine after the other does not collect their processes."""
    pytest.importorskip("vllm")
    from vllm_diffusion.server import compilation

    class Config:
        additional_config: Any = None

    config = Config()
    key = id(config)
    service = compilation.checks_of(config)  # type: ignore[arg-type]
    assert compilation.checks_of(config) is service  # type: ignore[arg-type]
    ended: list[bool] = []
    service.close = lambda: ended.append(True)  # type: ignore[method-assign]
    del config
    assert ended == [True] and key not in compilation._CHECKS
