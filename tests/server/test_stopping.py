"""Where an answer ends: stop ids, ``max_tokens``, the model's length; and lengths that cannot be.

Stop strings are in ``test_bundled_model.py``, whose model writes text.
"""

from __future__ import annotations

import pytest

from tests.server.client import Answer, Client
from tests.server.limits import BLOCK_LENGTH, MAX_MODEL_LEN

PROMPT = [20, 21, 22, 23, 24]
FIRST = BLOCK_LENGTH - len(PROMPT)
"""Tokens in the first block of the answer."""


@pytest.fixture
def whole(client: Client) -> Answer:
    """An answer of several blocks that nothing stops, and that does not repeat itself.

    Drawn, so that tokens at different places differ.
    """
    return client.complete(PROMPT, max_tokens=64, **DRAWN)


DRAWN = {"temperature": 2.0, "seed": 21, "ignore_eos": True}


@pytest.mark.parametrize(
    "max_tokens", [1, 2, FIRST - 1, FIRST, FIRST + 1, FIRST + BLOCK_LENGTH, 33]
)
def test_max_tokens(client: Client, whole: Answer, max_tokens: int) -> None:
    """Also inside a block: what is shown is the beginning of the longer answer."""
    answer = client.complete(PROMPT, max_tokens=max_tokens, **DRAWN)
    assert answer.token_ids == whole.token_ids[:max_tokens]
    assert answer.finish_reason == "length"
    assert answer.usage["completion_tokens"] == max_tokens


@pytest.mark.parametrize("place", [0, 3, FIRST - 1, FIRST, FIRST + 7, 40])
def test_stop_token_ids(client: Client, whole: Answer, place: int) -> None:
    """At any place of any block; what the block holds behind it is dropped."""
    stop = whole.token_ids[place]
    end = whole.token_ids.index(stop) + 1
    answer = client.complete(PROMPT, max_tokens=64, stop_token_ids=[stop, 511], **DRAWN)
    assert answer.token_ids == whole.token_ids[:end]
    assert answer.finish_reason == "stop"
    assert answer.stop_reason == stop
    assert answer.usage["completion_tokens"] == end


def test_a_stopped_answer_costs_no_further_blocks(client: Client, whole: Answer) -> None:
    stopped = client.complete(PROMPT, max_tokens=64, stop_token_ids=[whole.token_ids[0]], **DRAWN)
    assert len(stopped.diffusion["blocks_by_steps"]) == 1
    assert stopped.diffusion["num_denoising_steps"] <= BLOCK_LENGTH


def test_the_models_length_is_an_end(client: Client) -> None:
    """The last block ends at ``max_model_len``; vLLM lowers ``max_tokens`` to what is left."""
    prompt = [20] * (MAX_MODEL_LEN - 21)
    for max_tokens in (21, 100):
        answer = client.complete(prompt, max_tokens, ignore_eos=True)
        assert len(answer.token_ids) == 21
        assert answer.finish_reason == "length"


def test_one_free_position(client: Client) -> None:
    answer = client.complete([20] * (MAX_MODEL_LEN - 1), max_tokens=1, ignore_eos=True)
    assert len(answer.token_ids) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"max_tokens": -1}, "max_tokens must be at least 1, got -1"),
        ({"max_tokens": MAX_MODEL_LEN + 1}, f"max_model_len={MAX_MODEL_LEN}"),
        ({"prompt": [20] * (MAX_MODEL_LEN + 1)}, f"maximum context length is {MAX_MODEL_LEN}"),
        ({"prompt": [20] * MAX_MODEL_LEN}, "max_tokens must be at least 1, got 0"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [512]}, "out of vocabulary"),
        ({"prompt": [-1]}, "greater than or equal to 0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_length_that_cannot_be_is_refused(client: Client, fields: dict, words: str) -> None:
    body = {"model": client.model, "prompt": PROMPT, "max_tokens": 4} | fields
    status, error = client.post("/v1/completions", body)
    assert status == 400, error
    assert words in error["error"]["message"]
    assert client.complete(PROMPT, max_tokens=4).token_ids
