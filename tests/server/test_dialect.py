"""What a response says of its cost, and what it tells clients of Mercury and of other servers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.client import Client, diffusion_of

PROMPT = "Tell me a story."
SIXTY = {"max_tokens": 60, "ignore_eos": True}


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_an_answer_says_what_it_has_cost(client: Client, kind: str) -> None:
    ask = client.chat if kind == "chat" else client.completion
    said = ask(PROMPT, **SIXTY).to_dict()
    account, counted = said["diffusion"], diffusion_of(said)
    assert account["forwards"] == counted["num_forwards"] >= account["steps"] > 0
    assert account["tokens"] == said["usage"]["completion_tokens"] == 60
    assert account["tokens_per_forward"] == round(60 / account["forwards"], 3)
    assert said["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    *_, last = ask(PROMPT, stream=True, stream_options={"include_usage": True}, **SIXTY)
    told = last.to_dict()
    # The prompt's forwards may be fewer now: its pages are known.
    streamed = told["diffusion"]
    assert (streamed["steps"], streamed["tokens"]) == (account["steps"], 60)
    assert streamed["tokens_per_forward"] == round(60 / streamed["forwards"], 3)
    assert told["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}


def test_several_answers_have_no_account(client: Client) -> None:
    said = client.chat(PROMPT, n=2, temperature=1.0, **SIXTY).to_dict()
    assert "diffusion" not in said
    assert said["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}


def contents(client: Client, **fields: Any) -> list[str]:
    chunks = client.chat(PROMPT, stream=True, **SIXTY, **fields)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    return [text for text in texts if text]


def test_realtime_tells_settled_text_before_its_block(client: Client) -> None:
    blocks, early = contents(client), contents(client, realtime=True)
    assert "".join(early) == "".join(blocks)
    assert len(early) > len(blocks)
    assert len(early[0]) < len(blocks[0])
    # A stop string may still cut what is settled.
    late = contents(client, realtime=True, stop=["never there"])
    assert "".join(late) == "".join(blocks)
    assert len(late) < len(early)


def test_mercurys_dialect_cuts_limits_with_a_warning(client: Client) -> None:
    said = client.chat(PROMPT, max_tokens=1 << 20, stop=["a", "e", " "], reasoning_effort="instant")
    assert "max_tokens=1048576" in said.warning
    body = {"model": client.model, "messages": [{"role": "user", "content": "x"}]}
    status, error = client.post("/v1/chat/completions", body | {"max_tokens": 1 << 20})
    assert (status, error["error"]["param"]) == (400, "max_tokens")


def test_foreign_fields_are_refused_with_the_option_that_takes_them(client: Client) -> None:
    body = {"model": client.model, "messages": [{"role": "user", "content": "x"}]}
    status, error = client.post("/v1/chat/completions", body | {"keep_alive": 5})
    assert (status, error["error"]["param"]) == (400, "keep_alive")
    assert "foreign_fields" in error["error"]["message"]
