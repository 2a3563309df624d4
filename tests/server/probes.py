"""A request with one field more, and what is read off its response."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Response = dict[str, Any]
Fields = dict[str, Any] | Callable[[Response], dict[str, Any]]
Effect = Callable[[Response, Response], object]


@dataclass(frozen=True)
class Probe:
    """What is sent and what comes of it."""

    outcome: Literal["served", "refused", "either"]
    fields: Fields
    """Laid over the plain request; or a function of the plain response that gives them."""
    effect: Effect | None = None
    """What must be true of the response and the plain one."""
    words: str = ""
    """What a refusal says, beside the field's name."""
    status: int = 400
    """Of a refusal."""


def choice(r: Response) -> dict[str, Any]:
    found: dict[str, Any] = r["choices"][0]
    return found


def text(r: Response) -> str:
    one = choice(r)
    return (one["message"]["content"] if "message" in one else one["text"]) or ""


def ids(r: Response) -> list[int]:
    found: list[int] = choice(r)["token_ids"]
    return found


def prompt_ids(r: Response) -> list[int]:
    found: list[int] = r.get("prompt_token_ids") or choice(r)["prompt_token_ids"]
    return found


def num_tokens(r: Response) -> int:
    count: int = r["usage"]["completion_tokens"]
    return count


def same(r: Response, plain: Response) -> bool:
    return text(r) == text(plain) and ids(r) == ids(plain)


def differs(r: Response, plain: Response) -> bool:
    return text(r) != text(plain)


def served(effect: Effect | None = None, /, **fields: Any) -> Probe:
    return Probe("served", fields, effect)


def from_plain(fields: Callable[[Response], dict[str, Any]], effect: Effect) -> Probe:
    return Probe("served", fields, effect)


def refused(words: str = "", /, **fields: Any) -> Probe:
    return Probe("refused", fields, words=words)


def steps(r: Response) -> int:
    found: int = r["metrics"]["speculative_decoding"]["diffusion"]["num_denoising_steps"]
    return found


def tokens(r: Response) -> list[dict[str, Any]]:
    """Of a chat, by token."""
    found: list[dict[str, Any]] = choice(r)["logprobs"]["content"]
    return found


def parse(body: str) -> Response:
    """A response's JSON; a stream's chunks under ``chunks``."""
    if not body.startswith("data: "):
        whole: Response = json.loads(body)
        return whole
    events = [line.removeprefix("data: ") for line in body.splitlines() if line]
    assert events.pop() == "[DONE]"
    return {"chunks": [json.loads(event) for event in events]}
