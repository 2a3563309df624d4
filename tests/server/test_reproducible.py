"""An answer depends on its request alone: not on what shares its batch, nor on when it is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.server.client import Answer, Client, together

PROMPT = "The quick brown fox"
OTHERS = [[40 + number] * (3 + 11 * number) for number in range(8)]


def asked(client: Client, **fields: Any) -> Callable[[], Answer]:
    return lambda: client.complete(PROMPT, max_tokens=48, ignore_eos=True, **fields)


def among_others(client: Client, call: Callable[[], Answer]) -> Answer:
    """The answer with eight other requests under way, each with settings of its own."""
    others = [
        lambda p=p, i=i: client.complete(
            p,
            max_tokens=30 + 5 * i,
            temperature=i % 3,
            seed=i,
            diffusion_policy=("confidence", "static", "entropy", "margin")[i % 4],
        )
        for i, p in enumerate(OTHERS)
    ]
    answer: Answer = together([*others[:4], call, *others[4:]])[4]
    return answer


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"temperature": 0, "diffusion_policy": "entropy", "diffusion_threshold": 2.0},
        {"temperature": 0, "diffusion_block_length": 8},
        {"temperature": 1.0, "seed": 7},
        {"temperature": 1.5, "seed": -1234567890123, "top_k": 20, "top_p": 0.9},
        {"temperature": 0.7, "seed": 7, "diffusion_policy": "static", "diffusion_max_steps": 4},
    ],
    ids=str,
)
def test_alone_and_among_others(client: Client, fields: dict[str, Any]) -> None:
    call = asked(client, **fields)
    alone = call()
    assert call().token_ids == alone.token_ids
    assert among_others(client, call).token_ids == alone.token_ids


def test_the_seed_decides(client: Client) -> None:
    answers = {tuple(asked(client, temperature=2.0, seed=seed)().token_ids) for seed in (1, 2, 3)}
    assert len(answers) == 3


def test_without_a_seed_answers_differ(client: Client) -> None:
    answers = {tuple(asked(client, temperature=2.0)().token_ids) for _ in range(3)}
    assert len(answers) == 3


@pytest.mark.parametrize("cut", [{"top_k": 1}, {"top_p": 1e-6}], ids=str)
def test_the_most_probable_token_alone_is_greedy(client: Client, cut: dict[str, Any]) -> None:
    greedy = asked(client)()
    assert asked(client, temperature=2.0, seed=5, **cut)().token_ids == greedy.token_ids
