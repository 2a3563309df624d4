"""Decode fields from every place that may set them: request, server, checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import sdar
from tests.parity.cases import RULES, Rule, Yardstick
from tests.parity.engines import EnginePool

Yardsticks = Callable[[int | Path], Yardstick]


def test_block_lengths_and_policies_mixed(engines: EnginePool, yardstick: Yardsticks) -> None:
    """Blocks of 4, 8 and 16 side by side in one batch of a server of 16."""
    reference = yardstick(16)
    cases = [
        reference.draw(17 + number, 25, (4, 8, 16)[number % 3], served=16, rule=rule)
        for number, rule in enumerate(RULES * 2)
    ]
    reference.compare(cases, engines(16).run(cases))
    reference.compare(cases, engines(16).run(cases, every=2))
    chunked = engines(16, max_num_batched_tokens=64)
    reference.compare(cases, chunked.run(cases, every=1))


def test_more_steps_than_positions(engines: EnginePool, yardstick: Yardsticks) -> None:
    reference = yardstick(8)
    cases = [
        reference.draw(9, 20, 8, rule=Rule("static", max_steps=steps)) for steps in (7, 8, 9, 100)
    ]
    reference.compare(cases, engines(8).run(cases))


def test_defaults_of_the_server(engines: EnginePool, yardstick: Yardsticks) -> None:
    """A request that says nothing gets the server's; what it says comes first."""
    reference = yardstick(16)
    options = {"policy": "margin", "threshold": 0.3, "max_steps": 8, "block_length": 8}
    engine = engines(16, additional_config={"diffusion": options})
    served = reference.draw(20, 30, 8, rule=Rule("margin", 0.3, 8))
    asked = reference.draw(21, 30, 8, rule=Rule("confidence", 0.7, 3))
    silent = served.arguments() | {"extra_args": None}
    engine.add("served", served.prompt, **silent)
    engine.add("asked", asked.prompt, **asked.arguments())
    engine.drain()
    outcomes = engine.outcomes("served") + engine.outcomes("asked")
    reference.compare([served, asked], outcomes)


def test_defaults_of_the_checkpoint(
    engines: EnginePool, yardstick: Yardsticks, tmp_path: Path
) -> None:
    folder = sdar.write(tmp_path / "cautious", block_size=8)
    path = folder / "generation_config.json"
    said = {"diffusion_policy": "static", "diffusion_max_steps": 4}
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    reference = yardstick(folder)
    case = reference.draw(20, 30, 8, rule=Rule("static", max_steps=4))
    engine = engines(folder)
    engine.add("silent", case.prompt, **case.arguments() | {"extra_args": None})
    engine.drain()
    reference.compare([case], engine.outcomes("silent"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("diffusion_policy", "random"),
        ("diffusion_threshold", 1.5),
        ("diffusion_max_steps", 0),
        ("diffusion_block_length", 3),
        ("diffusion_block_length", 32),
        ("diffusion_blocklength", 8),
    ],
)
def test_refused_by_name(field: str, value: Any, engines: EnginePool) -> None:
    from vllm.exceptions import VLLMClientError

    engine = engines(16)
    with pytest.raises(VLLMClientError, match=field):
        engine.add("refused", [3, 4, 5], max_tokens=4, extra_args={field: value})
    assert not engine.engine.has_unfinished_requests()
