"""What an engine with a pipeline of ranks is put through, whatever the family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.parity.cases import random_tokens
from tests.parity.engines import Engine
from tests.parity.families import FamilyCase, FamilyYardstick, Mode
from tests.parity.test_family_preemption import MAX_LEN, check, growing
from tests.parity.test_preemption import SCARCE

OPTIONS: dict[str, Any] = {"pipeline_parallel_size": 2, **SCARCE}
DRAWN: dict[str, Any] = {"temperature": 1.0, "seed": 7, "max_tokens": 8}

__all__ = ["DRAWN", "MAX_LEN", "OPTIONS", "draw_with_seed", "in_company", "interrupted"]


def in_company(yardstick: FamilyYardstick, engine: Engine, modes: Sequence[Mode]) -> None:
    """At once and one after the other; some ask for one token, some for less than there is."""
    cases = [
        yardstick.draw(8 + 7 * n, 1 if n % 4 == 3 else 10 + n, modes[n % len(modes)])
        for n in range(8)
    ]
    for every in (0, 1):
        check(yardstick, engine.fresh(), cases, engine.run(cases, every=every))
    yardstick.compare(cases[:2], engine.run_alone(cases[:2]))


def interrupted(
    yardstick: FamilyYardstick, engine: Engine, modes: Sequence[Mode], *, runs_out: bool
) -> None:
    """Steps are under way when requests lose their pages, are taken back, or lose everything."""
    # A guided request has its sequence twice, and ends where the second one would not fit.
    cases = growing(yardstick, [mode for mode in modes if "guidance_scale" not in mode.fields])
    engine.fresh()
    check(yardstick, engine, cases, engine.run(cases, every=1))
    assert bool(engine.preempted) == runs_out
    for num_steps in range(1, 9):
        engine.fresh()
        _start(engine, cases[:3])
        engine.add("leaves", random_tokens(20, num_steps), temperature=1.0, max_tokens=40)
        for _ in range(num_steps):
            engine.step()
        engine.engine.abort_request(["leaves"])
        engine.add("takes its slot", cases[3].prompt, **cases[3].arguments())
        engine.step()
        if num_steps % 2:
            assert engine.engine.reset_prefix_cache(reset_running_requests=True)
        engine.drain()
        outcomes = [engine.outcomes(name)[0] for name in ("0", "1", "2", "takes its slot")]
        engine.preempted = ["3" if name == "takes its slot" else name for name in engine.preempted]
        check(yardstick, engine, cases[:4], outcomes)
        assert engine.num_free_pages == SCARCE["num_gpu_blocks_override"] - 1


def draw_with_seed(engine: Engine, mode: Mode) -> list[int]:
    """What a request with a seed draws, beside others."""
    extra = {f"diffusion_{key}": value for key, value in mode.fields.items()}
    for number in range(3):
        engine.add(
            f"beside {number}", random_tokens(9 + number, number), **DRAWN | {"seed": number}
        )
    engine.add("drawn", random_tokens(20, 0), **DRAWN, extra_args=extra)
    engine.drain()
    return engine.outcomes("drawn")[0].tokens


def _start(engine: Engine, cases: Sequence[FamilyCase]) -> None:
    for number, case in enumerate(cases):
        engine.add(str(number), case.prompt, **case.arguments())
