"""Streamed answers: a block at a time, nothing twice, nothing before it is settled."""

from collections.abc import Callable
from itertools import chain

import pytest

from tests.parity.cases import RULES, Yardstick
from tests.parity.engines import EnginePool

Yardsticks = Callable[[int], Yardstick]


@pytest.mark.parametrize("block", [4, 16])
def test_blocks_arrive_whole(block: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    from vllm.sampling_params import RequestOutputKind

    reference, engine = yardstick(block), engines(block)
    cases = {
        str(number): reference.draw(10 + number, 2 * block + 5, block, rule=rule)
        for number, rule in enumerate(RULES)
    }
    for name, case in cases.items():
        engine.add(name, case.prompt, output_kind=RequestOutputKind.DELTA, **case.arguments())
    pieces: dict[str, list[list[int]]] = {name: [] for name in cases}
    while engine.engine.has_unfinished_requests():
        for output in engine.engine.step():
            pieces[output.request_id].append(list(output.outputs[0].token_ids))
    for name, case in cases.items():
        assert list(chain(*pieces[name])) == reference(case).tokens
        ends = [len(case.prompt)]
        for piece in pieces[name]:
            ends.append(ends[-1] + len(piece))
        assert all(end % block == 0 for end in ends[1:-1])
        assert len(pieces[name]) == (ends[-1] - 1) // block - ends[0] // block + 1
