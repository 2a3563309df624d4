"""``diffusion_*`` fields do over HTTP what they say, as the response's metrics show."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.server.client import Client
from tests.server.limits import BLOCK_LENGTH, POLICY, THRESHOLD

PROMPT = list(range(20, 20 + BLOCK_LENGTH))
NUM_BLOCKS = 3
NUM_TOKENS = NUM_BLOCKS * BLOCK_LENGTH


def blocks_by_steps(client: Client, **fields: Any) -> dict[int, int]:
    """How many of three whole blocks took how many steps."""
    answer = client.complete(PROMPT, max_tokens=NUM_TOKENS, ignore_eos=True, **fields)
    assert len(answer.token_ids) == answer.diffusion["num_tokens"] == NUM_TOKENS
    blocks = {int(steps): num for steps, num in answer.diffusion["blocks_by_steps"].items()}
    assert (
        sum(steps * num for steps, num in blocks.items())
        == (answer.diffusion["num_denoising_steps"])
    )
    return blocks


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"diffusion_threshold": 0}, {1: NUM_BLOCKS}),
        ({"diffusion_threshold": 1}, {BLOCK_LENGTH: NUM_BLOCKS}),
        ({"diffusion_threshold": 1, "diffusion_max_steps": 4}, {4: NUM_BLOCKS}),
        ({"diffusion_max_steps": 1}, {1: NUM_BLOCKS}),
        ({"diffusion_policy": "static"}, {BLOCK_LENGTH: NUM_BLOCKS}),
        ({"diffusion_policy": "static", "diffusion_max_steps": 4}, {4: NUM_BLOCKS}),
        # 16 = 4 + 3 + 3 + 3 + 3
        ({"diffusion_policy": "static", "diffusion_max_steps": 5}, {5: NUM_BLOCKS}),
        ({"diffusion_policy": "entropy", "diffusion_threshold": 1000}, {1: NUM_BLOCKS}),
        ({"diffusion_policy": "margin", "diffusion_threshold": 1}, {BLOCK_LENGTH: NUM_BLOCKS}),
        ({"diffusion_block_length": 8, "diffusion_threshold": 0}, {1: 2 * NUM_BLOCKS}),
        ({"diffusion_block_length": 4, "diffusion_threshold": 1}, {4: 4 * NUM_BLOCKS}),
        ({"diffusion_block_length": 1}, {1: NUM_TOKENS}),
    ],
    ids=lambda value: str(value)[:70],
)
def test_steps(client: Client, fields: dict[str, Any], expected: dict[int, int]) -> None:
    assert blocks_by_steps(client, **fields) == expected


def test_a_lower_threshold_takes_no_more_steps(client: Client) -> None:
    steps = [
        sum(n * num for n, num in blocks_by_steps(client, diffusion_threshold=threshold).items())
        for threshold in (0.0, 0.5, 1.0)
    ]
    assert steps[0] == NUM_BLOCKS
    assert steps[0] <= steps[1] <= steps[2] == NUM_TOKENS


def test_the_servers_flags_are_the_default(client: Client) -> None:
    """They come before the checkpoint's ``generation_config.json`` and block length."""
    said = {
        "diffusion_policy": POLICY,
        "diffusion_threshold": THRESHOLD,
        "diffusion_block_length": BLOCK_LENGTH,
    }
    fields: dict[str, Any] = {"max_tokens": NUM_TOKENS, "ignore_eos": True}
    answer = client.complete(PROMPT, **fields)
    assert client.complete(PROMPT, **said, **fields) == answer
    shipped = {"diffusion_policy": "margin", "diffusion_threshold": 0.3}
    assert client.complete(PROMPT, **shipped, **fields).diffusion != answer.diffusion


def test_a_key_that_nobody_reads_is_refused(client: Client) -> None:
    with pytest.raises(openai.BadRequestError, match="carries the diffusion_\\* fields alone"):
        client.completion(PROMPT, max_tokens=4, vllm_xargs={"other": 1})


def test_chat_takes_them_too(client: Client) -> None:
    one, many = (
        client.chat("Hello!", max_tokens=40, ignore_eos=True, diffusion_max_steps=steps).to_dict()
        for steps in (1, 16)
    )
    steps_of_one = one["metrics"]["speculative_decoding"]["diffusion"]["num_denoising_steps"]
    steps_of_many = many["metrics"]["speculative_decoding"]["diffusion"]["num_denoising_steps"]
    assert 3 <= steps_of_one <= 4 < steps_of_many


def test_words_of_the_text(client: Client) -> None:
    """Keywords come, other texts do not, and the length is kept; so in each answer of several."""
    said = {
        "diffusion_keywords": ["purple fox", "数量"],
        "diffusion_without": ["the", "1"],
        "diffusion_min_chars": 30,
        "diffusion_max_chars": 60,
    }
    for fields in ({"temperature": 0}, {"temperature": 1.5, "n": 2, "seed": 5}):
        for answer in client.completion(PROMPT, max_tokens=80, **fields, **said).choices:
            assert answer.finish_reason == "stop"
            assert "purple fox" in answer.text
            assert "数量" in answer.text
            assert "the" not in answer.text
            assert "1" not in answer.text
            assert 30 <= len(answer.text) <= 60
    stream = client.completion(PROMPT, stream=True, max_tokens=80, **said)
    text = "".join(chunk.choices[0].text for chunk in stream)
    assert text == client.complete(PROMPT, max_tokens=80, **said).text
    chat = client.chat("How are you?", max_tokens=80, **said).choices[0].message.content
    assert "purple fox" in chat
    assert 30 <= len(chat) <= 60
