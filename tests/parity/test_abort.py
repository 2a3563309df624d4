"""Requests that are taken back, in every state, and what they held."""

from collections.abc import Callable

from tests.parity.cases import RULES, Rule, Yardstick, random_tokens
from tests.parity.engines import EnginePool

Yardsticks = Callable[[int], Yardstick]


def test_abort_in_a_block(engines: EnginePool, yardstick: Yardsticks) -> None:
    """The other request ends right, and all pages can be used again."""
    reference, engine = yardstick(8), engines(8, num_gpu_blocks_override=25)
    num_free = engine.num_free_pages
    stays = reference.draw(45, 40, 8)
    leaves = reference.draw(50, 40, 8, rule=Rule(threshold=1.0))
    for num_steps in (1, 2, 5, 8, 9, 12):
        engine.add("stays", stays.prompt, **stays.arguments())
        engine.add("leaves", leaves.prompt, **leaves.arguments())
        for _ in range(num_steps):
            engine.step()
        engine.engine.abort_request(["leaves"])
        engine.drain()
        reference.compare([stays], engine.outcomes("stays"))
        assert engine.num_free_pages == num_free
    cases = [reference.draw(60 + n, 20, 8, rule=RULES[n]) for n in range(8)]
    reference.compare(cases, engine.run(cases))
    assert engine.num_free_pages == num_free == 24
    assert not engine.preempted


def test_abort_while_waiting_and_in_a_prompt(engines: EnginePool, yardstick: Yardsticks) -> None:
    reference, engine = yardstick(8), engines(8, max_num_batched_tokens=64, max_num_seqs=2)
    num_free = engine.num_free_pages
    cases = [reference.draw(10 + n, 20, 8, rule=RULES[n]) for n in range(4)]
    engine.add("in-a-prompt", random_tokens(300, 0), max_tokens=9)
    for number, case in enumerate(cases):
        engine.add(str(number), case.prompt, **case.arguments())
    engine.add("waiting", random_tokens(20, 0), max_tokens=9)
    engine.step()
    engine.step()
    engine.engine.abort_request(["in-a-prompt", "waiting"])
    engine.drain()
    outcomes = [engine.outcomes(str(number))[0] for number in range(len(cases))]
    reference.compare(cases, outcomes)
    assert engine.num_free_pages == num_free


def test_slot_of_an_aborted_request(engines: EnginePool, yardstick: Yardsticks) -> None:
    """The next request in the slot inherits neither tokens, steps nor rules."""
    reference, engine = yardstick(16), engines(16, max_num_seqs=1)
    cases = [reference.draw(21, 30, 16, rule=rule) for rule in RULES]
    for number, case in enumerate(cases):
        engine.add("leaves", random_tokens(40, number), temperature=1.0, max_tokens=40)
        for _ in range(number + 1):
            engine.step()
        engine.engine.abort_request(["leaves"])
        outcome = engine.run([case])
        reference.compare([case], outcome)
