"""What the tests ask a server, with the real OpenAI client.

Requests are greedy unless they say otherwise, so that an answer is a function
of its prompt. Fields that OpenAI does not have travel in ``extra_body``, and
``diffusion_*`` fields in its ``vllm_xargs``.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai

Prompt = str | list[int]


@dataclass(frozen=True)
class Answer:
    """One completion, as plain values."""

    text: str
    token_ids: list[int]
    finish_reason: str
    stop_reason: int | str | None
    usage: dict[str, Any]
    diffusion: dict[str, Any]
    """The decode metrics in the response."""


class Client:
    """One served model."""

    def __init__(self, url: str, model: str) -> None:
        self.url = url
        self.model = model
        self.openai = openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0, timeout=120)

    def complete(self, prompt: Prompt, max_tokens: int = 40, **fields: Any) -> Answer:
        """A completion, without streaming."""
        response = self.completion(prompt, max_tokens=max_tokens, **fields).to_dict()
        choice = response["choices"][0]
        return Answer(
            text=choice["text"],
            token_ids=choice["token_ids"],
            finish_reason=choice["finish_reason"],
            stop_reason=choice["stop_reason"],
            usage=response["usage"],
            diffusion=diffusion_of(response),
        )

    def completion(self, prompt: Prompt, *, stream: bool = False, **fields: Any) -> Any:
        """The client's own answer, or its stream."""
        return self.openai.completions.create(
            model=self.model, prompt=prompt, stream=stream, extra_body=body_of(fields)
        )

    def chat(self, *texts: str, stream: bool = False, **fields: Any) -> Any:
        """A chat completion; the texts are the user's and the assistant's in turn."""
        messages: Any = [
            {"role": ("user", "assistant")[number % 2], "content": text}
            for number, text in enumerate(texts)
        ]
        return self.openai.chat.completions.create(
            model=self.model, messages=messages, stream=stream, extra_body=body_of(fields)
        )

    def post(self, path: str, body: dict[str, Any] | str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a request that the OpenAI client would not send."""
        status, text = self.post_for_text(path, body)
        return status, json.loads(text)

    def post_for_text(self, path: str, body: dict[str, Any] | str) -> tuple[int, str]:
        """The same, with the response's text as it comes; a stream's is its events."""
        data = body if isinstance(body, str) else json.dumps(body)
        request = urllib.request.Request(
            self.url + path, data.encode(), {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def body_of(fields: dict[str, Any]) -> dict[str, Any]:
    """The request's fields as they travel."""
    decode = {name: value for name, value in fields.items() if name.startswith("diffusion_")}
    plain = {name: value for name, value in fields.items() if name not in decode}
    body = {"temperature": 0, "return_token_ids": True} | plain
    return body | ({"vllm_xargs": decode} if decode else {})


def diffusion_of(response: dict[str, Any]) -> dict[str, Any]:
    """``metrics.speculative_decoding.diffusion``; empty where there is none."""
    metrics = response.get("metrics") or {}
    found: dict[str, Any] = (metrics.get("speculative_decoding") or {}).get("diffusion", {})
    return found


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the calls at the same time; results in their order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
