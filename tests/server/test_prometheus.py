"""``/metrics``: right by itself, and the sum of what the responses say of their requests."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import pytest

from tests.server.client import Answer, Client, together
from tests.server.counters import Counters, eventually
from tests.server.limits import BLOCK_LENGTH, MAX_BATCHED_TOKENS, PAGE

STEPS = "diffusion_num_denoising_steps_total"
POSITIONS = "diffusion_num_canvas_positions_total"
TOKENS = "diffusion_num_committed_tokens_total"
FORWARDS = "diffusion_num_forwards_total"
BLOCKS = "diffusion_block_denoising_steps"


class Difference:
    """What the counters gain from a point on."""

    def __init__(self, client: Client) -> None:
        self.url = client.url
        client.complete([9], max_tokens=1)  # the metrics come into being with the first request
        # The counts of that request may still be on their way.
        assert eventually(self._is_at_rest)

    def _is_at_rest(self) -> bool:
        earlier = Counters.read(self.url)
        time.sleep(0.5)
        self.before = Counters.read(self.url)
        return self.before(STEPS) == earlier(STEPS) and self.before("num_requests_running") == 0

    def __call__(self, name: str, **labels: str) -> float:
        return Counters.read(self.url)(name, **labels) - self.before(name, **labels)


def fresh_cache() -> dict[str, Any]:
    """A salt that nobody has used: nothing is cached under it."""
    return {"cache_salt": uuid.uuid4().hex}


def prompts(start: int) -> list[list[int]]:
    """Of many lengths; ``start`` tells them from other tests' in the prefix cache."""
    lengths = (1, 15, 16, 17, 100, 300, 640, 33)
    return [[start + n] + [30 + n] * (length - 1) for n, length in enumerate(lengths)]


def total(answers: list[Answer], field: str) -> int:
    return sum(answer.diffusion[field] for answer in answers)


@pytest.mark.parametrize("is_concurrent", [False, True])
def test_counters_are_the_sum_of_the_responses(client: Client, is_concurrent: bool) -> None:
    gained = Difference(client)
    calls = [
        lambda p=prompt, n=number: client.complete(
            p,
            max_tokens=10 + 9 * n,
            temperature=n % 2,
            seed=n,
            diffusion_threshold=(0.0, 0.5, 0.9, 1.0)[n % 4],
        )
        for number, prompt in enumerate(prompts(100 + 10 * is_concurrent))
    ]
    answers = together(calls) if is_concurrent else [call() for call in calls]
    num_steps = total(answers, "num_denoising_steps")
    assert eventually(lambda: gained(STEPS) == num_steps), (gained(STEPS), num_steps)
    assert gained(FORWARDS, kind="denoise") == num_steps
    assert gained(FORWARDS, kind="prefill") == total(answers, "num_prefill_forwards")
    assert gained(TOKENS) == total(answers, "num_tokens")
    assert gained(TOKENS) == sum(len(answer.token_ids) for answer in answers)
    num_blocks = sum(sum(a.diffusion["blocks_by_steps"].values()) for a in answers)
    assert gained(BLOCKS + "_count") == num_blocks
    assert gained(BLOCKS + "_sum") == num_steps
    for bound in range(1, BLOCK_LENGTH + 1):
        within = sum(
            num
            for answer in answers
            for steps, num in answer.diffusion["blocks_by_steps"].items()
            if int(steps) <= bound
        )
        assert gained(BLOCKS + "_bucket", le=f"{bound}.0") == within
    # A canvas is as wide as what is not known of its block.
    assert num_steps <= gained(POSITIONS) <= num_steps * BLOCK_LENGTH


def test_forwards_are_denoising_steps_and_prefill_chunks(client: Client) -> None:
    """Canvas, chunks and pages of one long prompt, by hand."""
    gained = Difference(client)
    prompt = [*range(20, 320), *range(20, 320)]
    fields = fresh_cache() | {"max_tokens": 24, "ignore_eos": True, "diffusion_threshold": 0}
    answer = client.complete(prompt, **fields)
    # 592 tokens are complete blocks. Two chunks of 256; the other 80 and the canvas share one.
    assert 592 - 2 * MAX_BATCHED_TOKENS + BLOCK_LENGTH < MAX_BATCHED_TOKENS
    assert answer.diffusion == {
        "num_tokens": 24,
        "num_denoising_steps": 2,
        "num_prefill_forwards": 2,
        "num_approximate_forwards": 0,
        "blocks_by_steps": {"1": 2},
        "num_forwards": 4,
        "tokens_per_forward": 6.0,
        "warning": None,
    }
    assert answer.usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert eventually(lambda: gained(STEPS) == 2)
    assert gained(FORWARDS, kind="prefill") == 2
    assert gained(POSITIONS) == 8 + BLOCK_LENGTH

    again = client.complete(prompt, **fields)
    assert again.token_ids == answer.token_ids
    assert again.usage["prompt_tokens_details"]["cached_tokens"] == 600 // PAGE * PAGE
    assert again.diffusion["num_prefill_forwards"] == 0
    assert again.diffusion["num_forwards"] == 2


def test_prefix_caching_is_on(client: Client) -> None:
    """Answers are part of the next turn's prefix: their pages are final too."""
    gained = Difference(client)
    prompt, salt = [50] * PAGE, fresh_cache()
    answer = client.complete(prompt, max_tokens=PAGE + BLOCK_LENGTH, ignore_eos=True, **salt)
    longer = [*prompt, *answer.token_ids, 51, 52, 53]
    again = client.complete(longer, max_tokens=8, **salt)
    assert again.usage["prompt_tokens_details"]["cached_tokens"] == 2 * PAGE
    assert eventually(lambda: gained("prefix_cache_hits_total") == 2 * PAGE)


def test_a_shorter_block_does_not_share_pages(client: Client) -> None:
    """K and V depend on the block length; the answer is that of an empty cache."""
    prompt = [54] * (2 * PAGE + 1)
    fields = fresh_cache() | {"max_tokens": 20, "ignore_eos": True}
    client.complete(prompt, **fields)
    shorter = client.complete(prompt, diffusion_block_length=8, **fields)
    assert shorter.usage["prompt_tokens_details"]["cached_tokens"] == 0
    again = client.complete(prompt, diffusion_block_length=8, **fields)
    assert again.usage["prompt_tokens_details"]["cached_tokens"] == 2 * PAGE
    assert again.token_ids == shorter.token_ids


def test_tokens_per_forward_is_the_ratio_since_the_start(client: Client) -> None:
    client.complete([20] * 40, max_tokens=40)

    def is_ratio() -> bool:
        now = Counters.read(client.url)
        forwards = now(FORWARDS, kind="denoise") + now(FORWARDS, kind="prefill")
        expected = pytest.approx(now(TOKENS) / forwards)
        return bool(now("diffusion_tokens_per_forward") == expected)

    assert eventually(is_ratio)


def test_several_answers_are_counted_one_by_one(client: Client) -> None:
    """vLLM's response has no metrics for ``n > 1``; the counters have."""
    gained = Difference(client)
    response = client.completion(
        [20] * 20, n=3, temperature=1.0, seed=1, max_tokens=20, ignore_eos=True
    )
    assert len(response.choices) == 3
    assert eventually(lambda: gained(TOKENS) == 60)
    assert gained(FORWARDS, kind="denoise") == gained(STEPS) == gained(BLOCKS + "_sum")


def test_a_stop_string_leaves_the_account_whole(client: Client) -> None:
    """The front end finds it; the request's own numbers are there nevertheless."""
    prompt = [20, 21, 22]
    fields: dict[str, Any] = {"temperature": 2.0, "seed": 21, "max_tokens": 64}
    whole = client.complete(prompt, **fields)
    gained = Difference(client)
    stop = re.findall("[a-z]{3,}", whole.text)[3]
    stopped = client.complete(prompt, stop=[stop], **fields)
    assert stopped.finish_reason == "stop"
    assert 0 < stopped.diffusion["num_denoising_steps"] <= whole.diffusion["num_denoising_steps"]
    # At most one more step was under way when the request was taken back.
    assert eventually(lambda: gained(STEPS) >= stopped.diffusion["num_denoising_steps"])
    assert gained(STEPS) <= stopped.diffusion["num_denoising_steps"] + BLOCK_LENGTH
