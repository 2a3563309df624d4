"""Everything at once, drawn at random: what no other test thought of."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.parity.cases import RULES, Case, Yardstick, random_tokens
from tests.parity.engines import EnginePool

Yardsticks = Callable[[int], Yardstick]

SEEDS = range(3)
SERVED = 16
NUM_PAGES = 14
MAX_LEN = 256


Texts = dict[int, list[tuple[int, ...]]]


def draw_case(chance: random.Random, reference: Yardstick, texts_of: Texts) -> Case:
    """A request that may go on from an earlier one's text, with any rule and any end."""
    block = chance.choice([4, 8, 16, 16])
    rule = chance.choice(RULES)
    num_tokens = chance.randrange(1, 50)
    texts = texts_of.setdefault(block, [()])
    start = chance.choice(texts[-3:])[: chance.randrange(30, 150)]
    num_new = chance.randrange(1, 60)

    def make(seed: int) -> Case:
        return Case(
            prompt=start + random_tokens(num_new, seed),
            max_tokens=num_tokens,
            block=block,
            served=SERVED,
            rule=rule,
            max_len=MAX_LEN,
        )

    case = reference.clear(make)
    answer = reference(case).tokens
    texts.append(case.prompt + tuple(answer))
    stopped = replace(case, stop_ids=(chance.choice(answer), 501))
    if chance.random() < 0.3 and reference.is_clear(stopped):
        return stopped
    return case


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("budget", [48, 2048])
def test_mixture(seed: int, budget: int, engines: EnginePool, yardstick: Yardsticks) -> None:
    """Arrivals, ends and aborts at random, few pages, shared prefixes, all rules and lengths."""
    reference = yardstick(SERVED)
    chance = random.Random(seed)
    engine = engines(
        SERVED,
        max_model_len=MAX_LEN,
        max_num_batched_tokens=budget,
        num_gpu_blocks_override=NUM_PAGES,
    )
    num_free = engine.num_free_pages
    texts_of: Texts = {}
    cases: dict[str, Case] = {}
    for number in range(30):
        case = draw_case(chance, reference, texts_of)
        cases[str(number)] = case
        engine.add(str(number), case.prompt, **case.arguments())
        for _ in range(chance.randrange(4)):
            engine.step()
        if chance.random() < 0.15:
            name = chance.choice(sorted(cases))
            if name not in engine.finished:
                engine.engine.abort_request([name])
                del cases[name]
    engine.drain()
    outcomes = {name: engine.outcomes(name)[0] for name in cases}
    kept = [name for name in cases if name not in engine.preempted]
    reference.compare([cases[name] for name in kept], [outcomes[name] for name in kept])
    for name, case in cases.items():
        assert outcomes[name].tokens == reference(case).tokens, f"{name}: {case.rule}"
    assert engine.preempted
    assert any(outcome.cached for outcome in outcomes.values())
    assert engine.num_free_pages == num_free
