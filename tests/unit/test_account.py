"""What responses say of their cost, and usage in the forms that clients read."""

import asyncio
import json

import pytest

from vllm_diffusion.server.account import account_of, accounted, added, completed

METRICS = {
    "speculative_decoding": {
        "diffusion": {"num_denoising_steps": 4, "num_forwards": 5, "num_tokens": 33}
    }
}
TOLD = {"steps": 4, "forwards": 5, "tokens": 33, "tokens_per_forward": 6.6}


@pytest.mark.parametrize("metrics", [None, {}, {"speculative_decoding": None}])
def test_without_metrics_nothing_is_said(metrics) -> None:
    assert account_of(metrics) is None


def test_numbers_of_one_and_of_two() -> None:
    assert account_of(METRICS) == TOLD
    twice = {"steps": 8, "forwards": 10, "tokens": 66, "tokens_per_forward": 6.6}
    assert added(TOLD, TOLD) == twice
    assert added(TOLD, None) is None
    assert added(TOLD | {"infill": "prompted"}, {"infill": "prompted"}) == {"infill": "prompted"}
    assert added(TOLD, TOLD | {"infill": "prompted"}) == twice | {"infill": "prompted"}


def test_usage_has_details_and_flat_names() -> None:
    plain = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert completed(plain) == plain | {
        "completion_tokens_details": {"reasoning_tokens": 0},
        "reasoning_tokens": 0,
    }
    told = completed(
        plain
        | {
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1, "accepted_prediction_tokens": 7},
        }
    )
    assert (told["cached_input_tokens"], told["reasoning_tokens"]) == (2, 1)
    assert told["completion_tokens_details"]["accepted_prediction_tokens"] == 7


def test_only_events_with_numbers_change() -> None:
    text = json.dumps({"choices": [{"delta": {"content": 'a "usage": "metrics": b'}}]})
    numbers = {"choices": [], "usage": {"completion_tokens": 2}, "metrics": METRICS}
    sent = [f"data: {text}\n\n", f"data: {json.dumps(numbers)}\n\n", "data: [DONE]\n\n", 5]

    async def stream():
        for event in sent:
            yield event

    async def collect():
        return [event async for event in accounted(stream())]

    got = asyncio.run(collect())
    assert (got[0], got[2], got[3]) == (sent[0], sent[2], sent[3])
    last = json.loads(got[1].removeprefix("data: "))
    assert last["diffusion"] == TOLD
    assert last["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}
