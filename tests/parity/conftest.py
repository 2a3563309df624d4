"""Engines and references of the parity suite, made once for all of its modules."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import CheckpointFactory
from tests.forking import fork_server
from tests.parity.cases import Yardstick
from tests.parity.engines import EnginePool


@pytest.fixture(scope="package")
def yardstick(checkpoint: CheckpointFactory) -> Callable[[int | Path], Yardstick]:
    """The reference for a block size, or for a folder."""
    made: dict[int | Path, Yardstick] = {}

    def make(model: int | Path) -> Yardstick:
        if model not in made:
            made[model] = Yardstick(checkpoint(model) if isinstance(model, int) else model)
        return made[model]

    return make


@pytest.fixture(scope="package")
def engines(checkpoint: CheckpointFactory) -> Iterator[EnginePool]:
    """Engines by block size and options."""
    # Matrices of 128 rows gain nothing from a second thread, and lose much on a busy machine.
    # Before the first engine, which makes this function do nothing.
    torch.set_num_threads(1)
    pool = EnginePool(checkpoint)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def pool(engines: EnginePool) -> Iterator[EnginePool]:
    """Dense models alone: vLLM cannot add the group that experts need."""
    engines.close()
    yield engines
    engines.close()


@pytest.fixture
def forked_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks of several are forked from a process that has imported vLLM."""
    context = fork_server()
    monkeypatch.setattr("vllm.v1.executor.multiproc_executor.get_mp_context", lambda: context)
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
