"""A prompt of 32K: tokens and steps of a reference with K and V of its own, and few forwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.checkpoints import nemotron_labs, sdar
from tests.parity.cases import MIN_SLACK, random_tokens
from tests.parity.engines import EnginePool
from tests.parity.families import FamilyCase, confidence
from tests.parity.references import long
from tests.parity.references.choose import Answer

LENGTH, MAX_LEN, MAX_TOKENS = 32_768, 33_280, 20
BUDGET = 4096
"""Tokens of a step."""
BLOCK = 8
TAIL = 53
"""Tokens at the prompt's end that are drawn until no decision is a near-tie."""
NARROW: dict[str, Any] = {
    "head_dim": 32,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": MAX_LEN,
}
STRETCHED = nemotron_labs.CONFIG["rope_parameters"] | {
    "original_max_position_embeddings": 2048,
    "factor": MAX_LEN / 2048,
}


@dataclass(frozen=True, kw_only=True)
class Long:
    """A family with its reference."""

    module: ModuleType
    config: dict[str, Any]
    generate: Callable[..., Answer]
    unit: int
    """Block length of the prompt's mask; 1 is causal."""


FAMILIES = {
    "block-causal": Long(module=sdar, config=NARROW, generate=long.block_causal, unit=BLOCK),
    "causal context": Long(
        module=nemotron_labs,
        config=NARROW | {"rope_parameters": STRETCHED},
        generate=long.causal_context,
        unit=1,
    ),
}


def draw(family: Long, folder: Path, threshold: float) -> tuple[FamilyCase, Answer]:
    """A prompt without a near-tie, of which all but the end is the same in every try."""
    network = long.KeptNetwork(folder)
    begin = random_tokens(LENGTH - TAIL, 0)[: (LENGTH - TAIL) // BLOCK * BLOCK]
    long.keep(network, list(begin), family.unit)
    kept, num_kept = network.kept, network.num_kept
    for seed in range(1, 50):
        network.kept, network.num_kept = kept, num_kept
        tail = random_tokens(TAIL, seed)
        answer = family.generate(
            network, tail, MAX_TOKENS, mask_id=family.module.MASK_ID, block=BLOCK,
            threshold=threshold, stop_ids=(), max_len=MAX_LEN,
        )  # fmt: skip
        if answer.slack >= MIN_SLACK:
            mode = confidence(threshold)
            return FamilyCase(prompt=(*begin, *tail), max_tokens=MAX_TOKENS, mode=mode), answer
    raise AssertionError("only near-ties")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_prompt_of_32k(family: Long, engines: EnginePool, tmp_path: Path) -> None:
    folder = family.module.write(tmp_path / "narrow", **family.config)
    case, expected = draw(family, folder, 0.02)
    engines.close()
    engine = engines(
        folder,
        max_model_len=MAX_LEN,
        max_num_batched_tokens=BUDGET,
        max_num_seqs=2,
        kv_cache_memory_bytes=1 << 26,
        diffusion_config={"canvas_length": BLOCK},
    )
    try:
        for number in range(2):
            engine.add(str(number), case.prompt, **case.arguments() | {"ignore_eos": True})
            engine.drain()
            (found,) = engine.outcomes(str(number))
            assert (found.tokens, found.steps) == (expected.tokens, expected.steps)
            # One forward a budget, wherever blocks end; then the prefix cache has the prompt.
            most = -(-len(case.prompt) // BUDGET) if number == 0 else 1
            assert found.prefills <= most
        assert (
            found.cached >= len(case.prompt) - 2 * engine.core.vllm_config.cache_config.block_size
        )
    finally:
        engines.close()
