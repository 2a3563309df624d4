"""LoRA: two adapters and none in one batch, each as the reference on merged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import lora
from tests.parity.cases import MIN_SLACK, random_tokens
from tests.parity.families import Family, FamilyCase, FamilyYardstick, Mode
from tests.parity.family_bench import FamilyBench, kinds, make_bench

bench = pytest.fixture(scope="module")(make_bench)

SEEDS = (11, 12)
OPTIONS: dict[str, Any] = {"enable_lora": True, "max_loras": 2, "max_lora_rank": 8}


class Adapters:
    """A family's checkpoint and two adapters of it: what to ask for, and each one's reference."""

    def __init__(self, bench: FamilyBench, family: Family, folder: Path) -> None:
        from vllm.lora.request import LoRARequest

        base = bench.checkpoint(family)
        self.requests: list[Any] = [None]
        self.yardsticks = [bench.yardstick(family)]
        for number, seed in enumerate(SEEDS, 1):
            path = lora.write(folder / f"adapter-{seed}", base, seed=seed)
            self.requests.append(LoRARequest(f"adapter-{seed}", number, str(path)))
            merged = lora.merge(folder / f"merged-{seed}", base, seed=seed)
            self.yardsticks.append(FamilyYardstick(family, merged))

    def shared(self, length: int, max_tokens: int, mode: Mode) -> FamilyCase:
        """A case that is clear to the base and to both adapters, and that they answer otherwise."""
        for seed in range(200):
            case = FamilyCase(prompt=random_tokens(length, seed), max_tokens=max_tokens, mode=mode)
            answers = [yardstick(case) for yardstick in self.yardsticks]
            if all(answer.slack >= MIN_SLACK for answer in answers):
                texts = {tuple(answer.tokens) for answer in answers}
                assert len(texts) == len(answers)
                return case
        raise AssertionError("no clear case")


@pytest.fixture
def adapters(
    family: Family, bench: FamilyBench, tmp_path_factory: pytest.TempPathFactory
) -> Adapters:
    return Adapters(bench, family, tmp_path_factory.mktemp("lora"))


@kinds("block-causal", "canvas", "full")
def test_adapters_and_none_in_one_batch(
    family: Family, modes: tuple[Mode, ...], bench: FamilyBench, adapters: Adapters
) -> None:
    engine = bench.engine(family, **OPTIONS)
    cases = [adapters.shared(9 + 13 * n, 10, modes[n % len(modes)]) for n in range(3)]
    for turn in range(2):
        # In the other order the second time: which slot is the last one must not matter.
        order = range(3)[:: 1 - 2 * turn]
        for number, case in enumerate(cases):
            for which in order:
                name = f"{turn} {number} {which}"
                engine.add(name, case.prompt, lora=adapters.requests[which], **case.arguments())
                engine.step()
        engine.drain()
        for which, yardstick in enumerate(adapters.yardsticks):
            outcomes = [engine.outcomes(f"{turn} {n} {which}")[0] for n in range(len(cases))]
            yardstick.compare(cases, outcomes)


@kinds("block-causal", "canvas")
def test_adapters_share_no_pages(
    family: Family, modes: tuple[Mode, ...], bench: FamilyBench, adapters: Adapters
) -> None:
    """A prompt that one of them has left in the prefix cache is computed again for the others."""
    engine = bench.engine(family, **OPTIONS)
    case = adapters.shared(70, 6, modes[0])
    for expected in (0, 64):
        for which, yardstick in enumerate(adapters.yardsticks):
            lora_request = adapters.requests[which]
            engine.add(f"{which}", case.prompt, lora=lora_request, **case.arguments())
            engine.drain()
            (outcome,) = engine.outcomes(f"{which}")
            yardstick.compare([case], [outcome])
            assert outcome.cached == expected
