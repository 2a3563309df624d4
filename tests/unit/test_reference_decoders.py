"""The reference decoders against brute force, against each other, and their promises.

Those of full attention stand in ``test_reference_full``.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.parity import reference
from tests.parity.references import block_causal, causal_context, full
from tests.parity.references.choose import Answer
from tests.parity.references.toy import MASK, Noise, Script, Toy, one_by_one, prompt_of

seeds = st.integers(0, 2**31)
blocks = st.sampled_from([1, 3, 4, 8])
lengths = st.integers(1, 12)
few = settings(max_examples=25)

BASE_RULES = [
    {"policy": "confidence", "threshold": 0.3},
    {"policy": "confidence", "threshold": 0.0, "steps": 3},
    {"policy": "margin", "threshold": 0.1},
    {"policy": "entropy", "threshold": 4.0},
    {"policy": "static", "threshold": 0.0, "steps": 2},
    {"policy": "static", "threshold": 0.0},
]


# At one token a step


@few
@given(seed=seeds, length=lengths, block=blocks)
def test_block_causal_is_brute_force(seed: int, length: int, block: int) -> None:
    network, known = Toy(seed=seed), prompt_of(length, seed)

    def look(tokens: list[int]) -> Tensor:
        sees = [[j // block <= i // block for j in range(len(tokens))] for i in range(len(tokens))]
        return network.logits(tokens, torch.tensor(sees))

    num_blocks, steps = 3, 0
    for _ in range(num_blocks):
        steps += (num_masked := block - len(known) % block)
        known = one_by_one(known, num_masked, look)
    answer = block_causal.generate(
        network, known[:length], len(known) - length, mask_id=MASK, block=block, threshold=1.0
    )
    assert (answer.tokens, answer.steps) == (known[length:], steps)


@few
@given(seed=seeds, length=lengths, block=blocks)
def test_causal_context_is_brute_force(seed: int, length: int, block: int) -> None:
    network, known = Toy(seed=seed), prompt_of(length, seed)
    for _ in range(3):
        context = len(known)
        causal = network.logits(known, torch.ones(context, context).tril().bool())
        known.append(int(causal[-1, :MASK].argmax()))

        def look(tokens: list[int], context: int = context) -> Tensor:
            sees = [
                [j <= i or context <= i for j in range(len(tokens))] for i in range(len(tokens))
            ]
            return network.logits(tokens, torch.tensor(sees))

        known = one_by_one(known, block - 1, look)
    answer = causal_context.generate(
        network, known[:length], 3 * block, mask_id=MASK, block=block, threshold=1.0
    )
    assert (answer.tokens, answer.steps) == (known[length:], 3 * block)


# Block-causal


class AsBefore:
    """A network as the first reference wants it."""

    def __init__(self, network: Toy) -> None:
        self.network, self.c = network, {"mask_token_id": MASK}

    def logits(self, tokens: list[int], block: int, start: int = 0) -> Tensor:
        mask = block_causal.block_causal_mask(len(tokens), block)
        return self.network.logits(tokens, mask)[start:]


@pytest.mark.parametrize("rule", BASE_RULES, ids=str)
@few
@given(seed=seeds, length=lengths, block=blocks, num=st.integers(1, 20))
def test_block_causal_is_the_first_reference(
    rule: dict[str, Any], seed: int, length: int, block: int, num: int
) -> None:
    network, prompt = Toy(seed=seed), prompt_of(length, seed)
    ends = {"stop_ids": (3, 5), "max_len": length + 15}
    expected = reference.generate(AsBefore(network), prompt, num, block, **rule, **ends)
    answer = block_causal.generate(network, prompt, num, mask_id=MASK, block=block, **rule, **ends)
    assert answer == expected


@few
@given(seed=seeds, length=lengths, block=blocks, num_post=st.integers(0, 5))
def test_edits_end(seed: int, length: int, block: int, num_post: int) -> None:
    """Even with a network that changes its mind in each step, which ``Noise`` is."""
    num_blocks = 2
    answer = block_causal.generate(
        Noise(Toy(seed=seed), 9.0, seed),
        prompt_of(length, seed),
        num_blocks * block - length % block,
        mask_id=MASK,
        block=block,
        threshold=1.0,
        edit_threshold=0.0,
        max_post_steps=num_post,
    )
    assert len(answer.tokens) == num_blocks * block - length % block
    assert answer.steps <= num_blocks * (block + num_post)


@pytest.mark.parametrize("tail", [0, 3])
def test_edits_repair_a_wrong_token(tail: int) -> None:
    text = prompt_of(64, 7)
    text[:32] = [1] * 32
    network = Script(text, MASK)
    network.says_own, network.wrong = True, {17, 21}
    fields = {"mask_id": MASK, "block": 8, "threshold": 0.9}
    prompt = [9] * (16 + tail)  # Not what the network would say: pinned tokens have to stay.
    planted = block_causal.generate(network, prompt, 8 - tail, **fields)
    assert planted.tokens == [0 if at in {17, 21} else 1 for at in range(16 + tail, 24)]
    mended = block_causal.generate(network, prompt, 8 - tail, edit_threshold=0.9, **fields)
    assert mended.tokens == text[16 + tail : 24]
    assert (planted.steps, mended.steps) == (1, 3)  # decode; repair; nothing left to repair
    hasty = block_causal.generate(
        network, prompt, 8 - tail, edit_threshold=0.9, max_post_steps=0, **fields
    )
    assert hasty[:2] == planted[:2]


def test_a_stop_token_may_be_edited_away() -> None:
    network = Script([1] * 64, MASK)
    network.says_own, network.wrong = True, {2}  # Token 0 at first.
    fields = {"mask_id": MASK, "block": 4, "threshold": 0.9, "stop_ids": (0,)}
    assert block_causal.generate(network, [1], 6, **fields).tokens == [1, 0]
    edited = block_causal.generate(network, [1], 6, edit_threshold=0.5, **fields)
    assert edited.tokens == [1] * 6


@few
@given(seed=seeds, length=lengths, threshold=st.sampled_from([0.0, 0.2, 0.5]))
def test_edits_off_and_out_of_reach_agree(seed: int, length: int, threshold: float) -> None:
    """A bound of 1 edits nothing, and costs one forward a block to see that."""
    args = (Toy(seed=seed), prompt_of(length, seed), 16 - length % 8)
    fields = {"mask_id": MASK, "block": 8, "threshold": threshold}
    plain = block_causal.generate(*args, **fields)
    edited = block_causal.generate(*args, edit_threshold=1.0, **fields)
    assert (edited.tokens, edited.steps) == (plain.tokens, plain.steps + 2)


@pytest.mark.parametrize(("tail", "num", "steps"), [(0, 16, 4), (0, 8, 2), (3, 13, 3), (0, 1, 1)])
def test_a_seed_is_a_step(tail: int, num: int, steps: int) -> None:
    """Blocks of 8: each that starts empty costs a seed, and all else goes in one forward."""
    text = prompt_of(64, 1)
    network = Script(text[1:], MASK)  # Row r - 1 knows the text's token r.
    network.says_own = True
    answer = block_causal.generate(
        network, text[: 16 + tail], num, mask_id=MASK, block=8, shift=True, seed=True, threshold=0.9
    )
    assert (answer.tokens, answer.steps) == (text[16 + tail : 16 + tail + num], steps)


def test_a_seed_may_be_the_stop_token() -> None:
    text = [1] * 16 + [2, *[1] * 40]
    network = Script(text[1:], MASK)
    network.says_own = True
    answer = block_causal.generate(
        network, text[:12], 20, mask_id=MASK, block=8, shift=True, seed=True, stop_ids=(2,)
    )
    assert (answer.tokens, answer.steps) == ([1, 1, 1, 1, 2], 2)


class Watcher:
    """Notes which positions are masked in each forward."""

    def __init__(self, network: Any) -> None:
        self.network, self.seen = network, []

    def logits(self, tokens: list[int], mask: Tensor, blocks: Any = None) -> Tensor:
        self.seen.append({i for i, token in enumerate(tokens) if token == MASK})
        return self.network.logits(tokens, mask)


@few
@given(seed=seeds, length=lengths, rule=st.sampled_from(BASE_RULES))
def test_sub_blocks_go_left_to_right(seed: int, length: int, rule: dict[str, Any]) -> None:
    network = Watcher(Toy(seed=seed))
    block_causal.generate(
        network, prompt_of(length, seed), 12, mask_id=MASK, block=8, sub_block=2, **rule
    )
    for before, after in zip(network.seen, network.seen[1:], strict=False):
        assert {i // 2 for i in before - after} == {min(before) // 2}


@few
@given(seed=seeds, length=lengths, rule=st.sampled_from(BASE_RULES))
def test_a_sub_block_of_the_block_is_none(seed: int, length: int, rule: dict[str, Any]) -> None:
    args = (Toy(seed=seed), prompt_of(length, seed), 12)
    fields = {"mask_id": MASK, "block": 8, **rule}
    assert block_causal.generate(*args, sub_block=8, **fields) == block_causal.generate(
        *args, **fields
    )


# Causal context


@few
@given(seed=seeds, length=lengths, block=blocks, num=st.integers(1, 20))
def test_self_speculation_is_lossless(seed: int, length: int, block: int, num: int) -> None:
    args = (Toy(seed=seed), prompt_of(length, seed), num)
    fields = {"mask_id": MASK, "stop_ids": (3, 5), "max_len": length + 15}
    expected = causal_context.autoregressive(*args, **fields)
    answer = causal_context.self_speculate(*args, block=block, **fields)
    assert answer.tokens == expected.tokens
    assert expected.steps == len(expected.tokens)
    assert answer.slack <= expected.slack + 1e-4


@few
@given(seed=seeds, block=st.sampled_from([2, 4, 8]), num=st.integers(1, 40))
def test_self_speculation_with_good_drafts(seed: int, block: int, num: int) -> None:
    """A draft is right up to the first position that it is made to err at."""
    text = [1 + token % 20 for token in prompt_of(80, seed)]
    network = Script(text, MASK)
    network.wrong = set(random.Random(seed).sample(range(80), 12))
    prompt = text[:9]
    fields = {"mask_id": MASK, "stop_ids": (7,)}
    expected = causal_context.autoregressive(network, prompt, num, **fields)
    assert expected.tokens == text[9 : 9 + len(expected.tokens)]
    answer = causal_context.self_speculate(network, prompt, num, block=block, **fields)
    assert answer.tokens == expected.tokens
    at, steps, last = 9, 1, 9 + len(expected.tokens) - 1  # ``at``: the newest token's position
    while at < last:
        right = [i for i in range(at + 1, at + block) if i not in network.wrong]
        run = next(n for n in range(block) if n == block - 1 or at + 1 + n not in right)
        at, steps = at + run + 1, steps + 2
    assert answer.steps == steps


@few
@given(seed=seeds, num=st.integers(1, 9))
def test_a_canvas_of_one_is_autoregressive(seed: int, num: int) -> None:
    args = (Toy(seed=seed), prompt_of(5, seed), num)
    answer = causal_context.generate(*args, mask_id=MASK, block=1)
    assert answer == causal_context.autoregressive(*args, mask_id=MASK)


def test_a_canvas_ends_with_the_context() -> None:
    network = Watcher(Toy(seed=1))
    answer = causal_context.generate(
        network, prompt_of(5, 1), 40, mask_id=MASK, block=8, max_len=15
    )
    assert len(answer.tokens) == 10
    assert max(max(masked, default=0) for masked in network.seen) == 14


# All


def decode(group: str, network: Any, seed: int, rule: dict[str, Any]) -> Answer:
    fields = {"mask_id": MASK, "block": 4, "stop_ids": (3,), **rule}
    if group == "edits":
        fields |= {"edit_threshold": 0.2}
    decoders = {"causal_context": causal_context.generate, "full": full.generate}
    generate = decoders.get(group, block_causal.generate)
    return generate(network, prompt_of(6, seed), 10, **fields)


@pytest.mark.parametrize("group", ["block_causal", "edits", "causal_context", "full"])
@few
@given(
    seed=seeds, rule=st.sampled_from([rule for rule in BASE_RULES if rule["policy"] != "entropy"])
)
def test_slack_is_room_for_rounding(group: str, seed: int, rule: dict[str, Any]) -> None:
    """Logits off by a quarter of the slack decode the same; p, p1 - p2 and gaps move by less."""
    answer = decode(group, Toy(seed=seed), seed, rule)
    shaken = decode(group, Noise(Toy(seed=seed), answer.slack / 4, seed), seed, rule)
    assert shaken[:2] == answer[:2]


@few
@given(seed=seeds, rule=st.sampled_from(BASE_RULES), group=st.sampled_from(["a", "edits"]))
def test_the_mask_is_never_answered(seed: int, rule: dict[str, Any], group: str) -> None:
    network = Toy(seed=seed)
    network.head[MASK] *= 5
    assert MASK not in decode(group, network, seed, rule).tokens
