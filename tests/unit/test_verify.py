"""Self-speculation: verified drafts are causal greedy decoding, token for token.

Shape suffixes: B requests in the step, L canvas length.
"""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vllm_diffusion.denoise.verify import verify


def verified(
    tokens: list[int],
    causal: list[int],
    *,
    width: int | None = None,
    limit: int = 99,
    stop: tuple[int, ...] = (-1,),
) -> tuple[list[int], int]:
    """What one request emits, and its next seed."""
    text_BL, num_B, seed_B = verify(
        torch.tensor([tokens]),
        torch.tensor([causal]),
        torch.tensor([width or len(tokens)]),
        torch.tensor([limit]),
        torch.tensor([stop]),
    )
    return text_BL[0, : int(num_B)].tolist(), int(seed_B)


@pytest.mark.parametrize(
    ("causal", "keywords", "expected"),
    [
        ([6, 7, 8, 9], {}, ([5, 6, 7, 8], 9)),  # all of it, and the token after it
        ([6, 7, 0, 9], {}, ([5, 6, 7], 0)),  # the first wrong one is replaced
        ([0, 7, 8, 9], {}, ([5], 0)),  # the seed is always right
        ([6, 0, 8, 9], {}, ([5, 6], 0)),  # what is right behind a wrong one does not count
        ([6, 7, 8, 9], {"width": 2}, ([5, 6], 7)),
        ([6, 7, 8, 9], {"width": 1}, ([5], 6)),
        ([6, 7, 8, 9], {"limit": 3}, ([5, 6, 7], 9)),
        ([6, 7, 8, 9], {"limit": 4}, ([5, 6, 7, 8], 9)),
        ([6, 7, 8, 9], {"limit": 1}, ([5], 9)),
        ([6, 7, 8, 9], {"stop": (7,)}, ([5, 6, 7], 9)),
        ([6, 7, 8, 9], {"stop": (8, 5)}, ([5], 9)),
        ([6, 0, 8, 9], {"stop": (7,)}, ([5, 6], 0)),  # a stop token behind a wrong one
        ([6, 7, 8, 9], {"limit": 2, "stop": (7,)}, ([5, 6], 9)),
        # The causal token after the prefix is emitted where it is the last one.
        ([6, 0, 8, 9], {"limit": 3}, ([5, 6, 0], 0)),
        ([6, 0, 8, 9], {"limit": 4}, ([5, 6], 0)),
        ([6, 0, 8, 9], {"stop": (0,)}, ([5, 6, 0], 0)),
        ([0, 7, 8, 9], {"stop": (0,), "limit": 1}, ([5], 0)),
        ([6, 7, 8, 9], {"stop": (9,)}, ([5, 6, 7, 8], 9)),  # the canvas has no place for it
    ],
)
def test_what_a_verification_keeps(
    causal: list[int], keywords: dict, expected: tuple[list[int], int]
) -> None:
    assert verified([5, 6, 7, 8], causal, **keywords) == expected


row = st.tuples(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=8, max_size=8),
    st.integers(1, 8),
    st.integers(1, 10),
    st.lists(st.integers(-1, 4), min_size=2, max_size=2),
)


@given(rows=st.lists(row, min_size=1, max_size=6))
def test_a_verification_is_a_walk_along_the_draft(
    rows: list[tuple[list[tuple[int, int]], int, int, list[int]]],
) -> None:
    pairs, width, limit, stop = zip(*rows, strict=True)
    tokens = [[token for token, _ in of] for of in pairs]
    causal = [[following for _, following in of] for of in pairs]
    text_BL, num_B, seed_B = verify(
        *(torch.tensor(x) for x in (tokens, causal, width, limit, stop))
    )
    for b in range(len(rows)):
        num_right = 1
        while num_right < width[b] and tokens[b][num_right] == causal[b][num_right - 1]:
            num_right += 1
        seed = causal[b][num_right - 1]
        known = [*tokens[b][:num_right], seed][: len(tokens[b])]
        emitted = known[: limit[b]]
        stops = [i for i, token in enumerate(emitted) if token in stop[b]]
        if stops:
            emitted = emitted[: stops[0] + 1]
        elif len(emitted) < limit[b]:
            emitted = known[:num_right]
        assert text_BL[b, : int(num_B[b])].tolist() == emitted
        assert int(seed_B[b]) == seed


def next_token(prefix: list[int], vocab_size: int) -> int:
    """A causal model: any function of what it has read."""
    return Random(str(prefix)).randrange(vocab_size)


def autoregressive(prompt: list[int], limit: int, stop: int, vocab_size: int) -> list[int]:
    output: list[int] = []
    while len(output) < limit and stop not in output:
        output.append(next_token(prompt + output, vocab_size))
    return output


@given(
    seed=st.integers(0, 2**31),
    num=st.integers(1, 4),
    length=st.integers(1, 8),
    # With one token every draft is right, with many hardly any.
    vocab_size=st.sampled_from([1, 2, 3, 50]),
)
def test_rounds_of_drafts_are_autoregressive_decoding(
    seed: int, num: int, length: int, vocab_size: int
) -> None:
    chance = Random(seed)
    limits = [chance.randrange(1, 30) for _ in range(num)]
    prompts = [[chance.randrange(vocab_size) for _ in range(3)] for _ in range(num)]
    stop, max_len = vocab_size - 1 if vocab_size == 50 else -1, 40
    outputs: list[list[int]] = [[] for _ in range(num)]
    seeds = [next_token(prompt, vocab_size) for prompt in prompts]
    is_done = [False] * num
    while not all(is_done):
        known = [len(prompts[b] + outputs[b]) for b in range(num)]
        # What the bidirectional mode may draft: sometimes right, sometimes not.
        drafts = []
        for b in range(num):
            draft = [seeds[b]]
            while len(draft) < length:
                is_right = chance.random() < 0.7
                right = next_token(prompts[b] + outputs[b] + draft, vocab_size)
                draft.append(right if is_right else chance.randrange(vocab_size))
            drafts.append(draft)
        causal = [
            [
                next_token(prompts[b] + outputs[b] + drafts[b][: j + 1], vocab_size)
                for j in range(length)
            ]
            for b in range(num)
        ]
        text_BL, num_B, seed_B = verify(
            torch.tensor(drafts),
            torch.tensor(causal),
            torch.tensor([min(length, max_len - n) for n in known]),
            torch.tensor([max(limits[b] - len(outputs[b]), 1) for b in range(num)]),
            torch.tensor([[stop]] * num),
        )
        for b in range(num):
            if is_done[b]:
                continue
            assert 1 <= int(num_B[b]) <= length
            outputs[b] += text_BL[b, : int(num_B[b])].tolist()
            seeds[b] = int(seed_B[b])
            is_done[b] = len(outputs[b]) == limits[b] or stop in outputs[b]
    for b in range(num):
        assert outputs[b] == autoregressive(prompts[b], limits[b], stop, vocab_size)
