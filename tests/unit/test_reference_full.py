"""The reference decoder for full attention: brute force, Dream's schedule, caches, guidance."""

from __future__ import annotations

import random
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.parity.references import dream, full
from tests.parity.references.network_cache import PlacedNetwork
from tests.parity.references.stale import stale_logits
from tests.parity.references.toy import MASK, Toy, one_by_one, prompt_of

seeds = st.integers(0, 2**31)
lengths = st.integers(1, 12)
few = settings(max_examples=25)


@few
@given(seed=seeds, length=lengths, num=st.integers(1, 9), shift=st.booleans())
def test_full_is_brute_force(seed: int, length: int, num: int, shift: bool) -> None:
    network, prompt = Toy(seed=seed), prompt_of(length, seed)

    def look(tokens: list[int]) -> Tensor:
        logits = network.logits(tokens, torch.ones(len(tokens), len(tokens)).bool())
        return torch.cat((logits[:1], logits[:-1])) if shift else logits

    answer = full.generate(network, prompt, num, mask_id=MASK, block=num, shift=shift)
    assert (prompt + answer.tokens, answer.steps) == (one_by_one(prompt, num, look), num)


def counter_uniform(seed: int) -> dream.Uniform:
    """24-bit draws of a position and a step, whatever came before."""
    return lambda position, step: random.Random(f"{seed} {position} {step}").getrandbits(24) / 2**24


@pytest.mark.parametrize("policy", dream.POLICIES)
@few
@given(seed=seeds, length=lengths, block=st.sampled_from([3, 5, 12]), data=st.data())
def test_dream_without_idle_steps(
    policy: str, seed: int, length: int, block: int, data: Any
) -> None:
    """Same tokens, fewer forwards: of steps that transfer nothing, and behind a stop token."""
    steps = data.draw(st.sampled_from([None, 1, 2, block, 3 * block]))
    args = (Toy(seed=seed), prompt_of(length, seed), 12)
    fields = {
        "mask_id": MASK,
        "block": block,
        "policy": policy,
        "steps": steps,
        "shift": True,
        "uniform": counter_uniform(seed),
        "stop_ids": data.draw(st.sampled_from([(), (3, 5)])),
    }
    literal = dream.generate_with_idle_steps(*args, **fields)
    answer = full.generate(*args, **fields)
    assert answer.tokens == literal.tokens
    assert answer.steps <= min(literal.steps, 12)


@pytest.mark.parametrize("steps", [8, 9, 64, 512])
def test_dream_saves_a_forward(steps: int) -> None:
    """A share below one of one position rounds down to none, so the last step takes two."""
    args, fields = (Toy(), [1], 8), {"mask_id": MASK, "block": 8, "policy": "maskgit_plus"}
    assert full.generate(*args, steps=steps, **fields).steps == 7


@few
@given(seed=seeds, length=lengths, block=st.sampled_from([3, 8]), shift=st.booleans())
@pytest.mark.parametrize("kv_cache", ["prefix", "dual"])
def test_stale_keys_are_a_cache(
    kv_cache: str, seed: int, length: int, block: int, shift: bool
) -> None:
    """The duplicated sequence against K and V that are kept in fact."""
    network, draw = Toy(seed=seed), random.Random(seed)
    frozen = prompt_of(length, seed) + [MASK] * 10
    tokens = [draw.randrange(MASK) if token == MASK else token for token in frozen]
    start = max(length - shift, 0)
    fresh = range(start, length + block if kv_cache == "dual" else len(tokens))
    network.logits(frozen, torch.ones(len(frozen), len(frozen)).bool())
    others = [i for i in range(len(frozen)) if i not in fresh]
    kept = [(keys[others], values[others]) for keys, values in network.kept]
    expected = network.logits(
        [tokens[i] for i in fresh],
        torch.ones(len(fresh), len(tokens)).bool(),
        positions=list(fresh),
        frozen=kept,
    )
    torch.testing.assert_close(stale_logits(network, frozen, tokens, fresh), expected)


@few
@given(seed=seeds, length=lengths, shift=st.booleans())
@pytest.mark.parametrize("kv_cache", ["prefix", "dual"])
def test_a_cache_is_exact_in_a_first_forward(
    kv_cache: Any, seed: int, length: int, shift: bool
) -> None:
    """With a forward a block nothing is ever stale."""
    args = (Toy(seed=seed), prompt_of(length, seed), 12)
    fields = {"mask_id": MASK, "block": 4, "steps": 1, "shift": shift}
    exact = full.generate(*args, **fields)
    cached = full.generate(*args, kv_cache=kv_cache, **fields)
    assert cached[:2] == exact[:2]
    assert exact.steps == 3


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_a_checkpoint_can_be_placed(family: str, tmp_path: Path) -> None:
    """Rotary positions are relative, so moving all of them changes nothing, and one something."""
    folder = import_module(f"tests.checkpoints.{family}").write(tmp_path)
    network, tokens, mask = PlacedNetwork(folder), prompt_of(9, 1), torch.ones(9, 9).bool()
    expected = network.logits(tokens, mask)
    moved = network.logits(tokens, mask, positions=list(range(7, 16)))
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=1e-4)
    stretched = network.logits(tokens, mask, positions=[*range(8), 20])
    assert (stretched - expected).abs().max() > 1e-2


def test_caches_matter() -> None:
    """Else the tests above show nothing."""
    answers = {
        kv_cache: [
            full.generate(
                Toy(seed=seed), [1, 2], 16, mask_id=MASK, block=8, kv_cache=kv_cache
            ).tokens
            for seed in range(20)
        ]
        for kv_cache in (None, "prefix", "dual")
    }
    assert answers[None] != answers["prefix"] != answers["dual"] != answers[None]


@few
@given(seed=seeds, length=lengths, guidance=st.sampled_from([0.5, 2.0]))
def test_guidance_is_a_network_of_its_own(seed: int, length: int, guidance: float) -> None:
    network = Toy(seed=seed)

    class Guided:
        def logits(self, tokens: list[int], mask: Tensor, blocks: Any = None) -> Tensor:
            with_prompt = network.logits(tokens, mask)
            without_prompt = network.logits([MASK] * length + tokens[length:], mask)
            return (guidance + 1) * with_prompt - guidance * without_prompt

    prompt, fields = prompt_of(length, seed), {"mask_id": MASK, "block": 4}
    expected = full.generate(Guided(), prompt, 8, **fields)
    answer = full.generate(network, prompt, 8, guidance=guidance, **fields)
    if min(answer.slack, expected.slack) > 1e-4:
        assert answer[:2] == expected[:2]
