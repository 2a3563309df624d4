"""K and V of another engine: prompts that one engine reads, and another one answers.

Prefill and decode on two engines, which share a folder (``ExampleConnector``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.parity.engines import PAGE, Engine
from tests.parity.families import SPECULATION, Family, Mode
from tests.parity.family_bench import (
    CANVASES,
    EDITS,
    FAST,
    LLADA2,
    NEMOTRON,
    SEEDED,
    FamilyBench,
    make_bench,
)
from tests.parity.test_family_preemption import MAX_LEN, check
from tests.parity.test_preemption import SCARCE

bench = pytest.fixture(scope="module")(make_bench)

LENGTHS = (35, 64, 70, 90, 104)


@pytest.fixture
def one_at_a_time(bench: FamilyBench) -> Iterator[None]:
    """vLLM has one connector a process, which later engines must not find."""
    from vllm.distributed.kv_transfer import ensure_kv_transfer_shutdown

    yield
    bench.engines.close()
    ensure_kv_transfer_shutdown()


def engine_with(
    bench: FamilyBench, family: Family, role: str, folder: Path, **options: Any
) -> Engine:
    """A new engine, as if in a process of its own."""
    from vllm.distributed.kv_transfer import ensure_kv_transfer_shutdown

    bench.engines.close()
    ensure_kv_transfer_shutdown()
    transfer: dict[str, Any] = {
        "kv_connector": "ExampleConnector",
        "kv_role": role,
        "kv_connector_extra_config": {"shared_storage_path": str(folder)},
    }
    return bench.engine(
        family, kv_transfer_config=transfer, enable_chunked_prefill=False, **options
    )


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize(
    ("family", "modes"),
    [(FAST, SEEDED), (LLADA2, EDITS[:1]), (NEMOTRON, (*CANVASES, SPECULATION))],
    ids=["block-causal", "edits", "causal-context"],
)
def test_prefill_and_decode_on_two_engines(
    family: Family, modes: tuple[Mode, ...], bench: FamilyBench, tmp_path: Path
) -> None:
    yardstick = bench.yardstick(family)
    cases = [yardstick.draw(n, 20, modes[i % len(modes)]) for i, n in enumerate(LENGTHS)]
    prefill = engine_with(bench, family, "kv_producer", tmp_path)
    read = prefill.run([replace(case, max_tokens=1) for case in cases])
    assert not any(outcome.cached for outcome in read)
    decode = engine_with(bench, family, "kv_consumer", tmp_path)
    outcomes = decode.run(cases, every=1)
    yardstick.compare(cases, outcomes)
    # The connector leaves out the page in which the last two tokens are.
    assert [o.cached for o in outcomes] == [(n - 2) // PAGE * PAGE for n in LENGTHS]


@pytest.mark.usefixtures("one_at_a_time")
def test_a_lost_request_and_a_prompt_of_another_file(bench: FamilyBench, tmp_path: Path) -> None:
    """Requests that lose pages after they were loaded, and a prompt that ends past a page by one.

    Of that one the connector finds the pages but for the last, and would load all of them.
    """
    yardstick = bench.yardstick(FAST, MAX_LEN)
    cases = [yardstick.draw(37 + 4 * n, 78, SEEDED[0]) for n in range(3)]
    odd = yardstick.draw(2 * PAGE + 1, 12, SEEDED[0])
    begins_alike = replace(odd, prompt=odd.prompt[: PAGE + 8], max_tokens=1)
    prefill = engine_with(bench, FAST, "kv_producer", tmp_path)
    prefill.run([*(replace(case, max_tokens=1) for case in cases), begins_alike])
    decode = engine_with(
        bench, FAST, "kv_consumer", tmp_path, **SCARCE | {"num_gpu_blocks_override": 8}
    )
    check(yardstick, decode, cases, decode.run(cases, every=1))
    assert decode.preempted
    for _ in range(2):
        yardstick.compare([odd], decode.run([odd]))
