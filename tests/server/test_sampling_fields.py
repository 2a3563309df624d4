"""Fields about the distribution, as clients send them."""

from __future__ import annotations

import math

import pytest

from tests.server.client import Client

PROMPT = [20, 21, 22]


def test_log_probabilities_of_a_chat(client: Client) -> None:
    plain = client.chat("Hello!", max_tokens=24)
    scored = client.chat("Hello!", max_tokens=24, logprobs=True, top_logprobs=3)
    choice = scored.choices[0]
    assert choice.message.content == plain.choices[0].message.content
    entries = choice.logprobs.content
    assert len(entries) == scored.usage.completion_tokens
    for entry in entries:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) in (3, 4)
        best = max(top.logprob for top in entry.top_logprobs)
        assert entry.logprob == pytest.approx(best)  # greedy
    assert any(math.exp(entry.logprob) > 0.5 for entry in entries)


def tokens_of(client: Client, text: str) -> list[int]:
    body = {"model": client.model, "prompt": text, "add_special_tokens": False}
    tokens: list[int] = client.post("/tokenize", body)[1]["tokens"]
    return tokens


def test_words_that_may_not_come(client: Client) -> None:
    """Tokens of the plain answer that are words of their own."""
    plain = client.complete(PROMPT, max_tokens=40).token_ids
    words = {}
    for token in plain:
        body = {"model": client.model, "tokens": [token]}
        text = client.post("/detokenize", body)[1]["prompt"]
        if text.isalpha() and tokens_of(client, text) == [token]:
            words[text] = token
    assert words
    other = client.complete(PROMPT, max_tokens=40, bad_words=list(words))
    assert not set(words.values()) & set(other.token_ids)


def test_only_allowed_tokens_come(client: Client) -> None:
    allowed = [20, 21, 30, 31]
    answer = client.complete(PROMPT, max_tokens=20, allowed_token_ids=allowed)
    assert set(answer.token_ids) <= set(allowed)
    assert len(answer.token_ids) == 20


def test_an_end_that_may_not_come_yet(client: Client) -> None:
    """The best token of the plain answer is made a stop token."""
    first = client.complete(PROMPT, max_tokens=20).token_ids
    said = {"max_tokens": 20, "stop_token_ids": first[:3]}
    assert len(client.complete(PROMPT, **said).token_ids) == 1
    later = client.complete(PROMPT, min_tokens=12, **said).token_ids
    assert len(later) > 12 or len(later) == 20
    assert not set(later[:12]) & set(first[:3])


@pytest.mark.parametrize("field", ["frequency_penalty", "presence_penalty"])
def test_penalties_make_an_answer_varied(client: Client, field: str) -> None:
    plain = client.complete(PROMPT, max_tokens=60, ignore_eos=True).token_ids
    varied = client.complete(PROMPT, max_tokens=60, ignore_eos=True, **{field: 2.0}).token_ids
    assert len(set(varied)) > len(set(plain))
