"""Every prompt length modulo the block, under every policy, alone and in company."""

from collections.abc import Callable

import pytest

from tests.parity.cases import RULES, Case, Yardstick
from tests.parity.engines import EnginePool

BLOCKS = (4, 8, 16, 32)
LONG = (100, 333)

Yardsticks = Callable[[int], Yardstick]


def lengths(block: int) -> list[int]:
    return [*range(1, 2 * block + 2), *LONG]


def each_length(reference: Yardstick, block: int) -> list[Case]:
    """One case a length; neighbours have different policies."""
    return [
        reference.draw(length, block + 3, block, rule=RULES[length % len(RULES)])
        for length in lengths(block)
    ]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_length_at_once_by_default(
    block: int, engines: EnginePool, yardstick: Yardsticks
) -> None:
    reference = yardstick(block)
    stride = 1 if block < 32 else 2
    cases = [reference.draw(length, block + 3, block) for length in lengths(block)[::stride]]
    reference.compare(cases, engines(block).run(cases))


@pytest.mark.parametrize("block", BLOCKS)
def test_every_length_alone(block: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    reference = yardstick(block)
    cases = each_length(reference, block)
    reference.compare(cases, engines(block).run_alone(cases))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("every", [1, 3])
def test_policies_mixed_and_staggered(
    block: int, every: int, engines: EnginePool, yardstick: Yardsticks
) -> None:
    reference = yardstick(block)
    cases = each_length(reference, block)
    reference.compare(cases, engines(block).run(cases, every=every))


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
def test_every_policy_at_every_offset(
    block: int, rule: object, engines: EnginePool, yardstick: Yardsticks
) -> None:
    """A length of every remainder, or of every fifth where blocks are long."""
    reference = yardstick(block)
    stride = 1 if block < 32 else 5
    cases = [
        reference.draw(length, block + 3, block, rule=rule)
        for length in range(block // 2, 3 * block // 2 + 1, stride)
    ]
    reference.compare(cases, engines(block).run(cases))


def test_only_one_slot(engines: EnginePool, yardstick: Yardsticks) -> None:
    reference = yardstick(8)
    cases = each_length(reference, 8)
    reference.compare(cases, engines(8, max_num_seqs=1).run(cases))


def test_widest_block(engines: EnginePool, yardstick: Yardsticks) -> None:
    reference = yardstick(64)
    cases = [
        reference.draw(length, 70, 64, rule=RULES[number])
        for number, length in enumerate([1, 37, 63, 64, 65, 127, 128, 129, 200])
    ]
    reference.compare(cases, engines(64, block_size=64).run(cases, every=2))
