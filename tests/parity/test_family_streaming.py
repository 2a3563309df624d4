"""Streamed answers, and slots whose requests were taken back: nothing twice, nothing left over."""

from __future__ import annotations

from itertools import chain

import pytest

from tests.parity.cases import random_tokens
from tests.parity.families import Family, Mode
from tests.parity.family_bench import FamilyBench, kinds, make_bench

bench = pytest.fixture(scope="module")(make_bench)


@kinds()
def test_pieces_make_the_answer(
    family: Family, modes: tuple[Mode, ...], bench: FamilyBench
) -> None:
    from vllm.sampling_params import RequestOutputKind

    yardstick, engine = bench.yardstick(family), bench.engine(family)
    cases = {
        str(number): yardstick.draw(10 + number, 21, mode) for number, mode in enumerate(modes)
    }
    for name, case in cases.items():
        engine.add(name, case.prompt, output_kind=RequestOutputKind.DELTA, **case.arguments())
    pieces: dict[str, list[list[int]]] = {name: [] for name in cases}
    while engine.engine.has_unfinished_requests():
        for output in engine.engine.step():
            pieces[output.request_id].append(list(output.outputs[0].token_ids))
    for name, case in cases.items():
        assert list(chain(*pieces[name])) == yardstick(case).tokens
        assert all(0 < len(piece) <= family.block for piece in pieces[name])


@kinds()
def test_slot_of_an_aborted_request(
    family: Family, modes: tuple[Mode, ...], bench: FamilyBench
) -> None:
    """The next request in the slot inherits no canvas, seed or draft."""
    yardstick, engine = bench.yardstick(family), bench.engine(family, max_num_seqs=1)
    num_free = engine.num_free_pages
    case = yardstick.draw(21, 12, modes[0])
    for number in (0, 1, 2, 3, 5, 8):
        leaves = case.arguments() | {"max_tokens": 40, "ignore_eos": True}
        leaves["extra_args"] = {
            f"diffusion_{key}": value for key, value in modes[number % len(modes)].fields.items()
        }
        engine.add("leaves", random_tokens(40, number), **leaves)
        for _ in range(number):
            engine.step()
        engine.engine.abort_request(["leaves"])
        yardstick.compare([case], engine.run([case]))
        assert engine.num_free_pages == num_free
