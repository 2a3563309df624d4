"""Texts that sharpen in a terminal: what is shown after each step, and both commands."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from vllm_diffusion.cli import build_parser
from vllm_diffusion.terminal.canvas import Canvas
from vllm_diffusion.terminal.commands import run

FRAMES = [
    {"tokens": ["red", " fox"], "states": ["accepted", "masked"], "start": 0, "final": False},
    {"tokens": ["red", " owl"], "states": ["settled", "accepted"], "start": 0, "final": True},
    {"tokens": [" [b]", "<|end|>"], "states": ["given", "accepted"], "start": 2, "final": True},
]


class Script:
    """A source that plays the same frames, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ask(self, messages: Any, max_tokens: int, fields: dict[str, Any]) -> Iterator[Any]:
        self.asked.append(([*messages], max_tokens, fields))
        for frame in FRAMES:
            yield frame, None
        yield None, {"diffusion": {"tokens": 4, "forwards": 2}, "text": "red owl [b]"}


def test_a_canvas_keeps_finished_blocks_in_front() -> None:
    canvas, shown = Canvas(), []
    for frame in FRAMES:
        canvas.step(frame)
        shown.append(canvas.text().plain)
    assert shown == ["red fox", "red owl", "red owl [b]\u220e"]
    assert "3 steps" in canvas.counters().plain and "2 blocks" in canvas.counters().plain
    assert "2.00 tokens per forward" in canvas.counters({"tokens": 4, "forwards": 2}).plain


def test_a_block_that_starts_over_replaces_what_it_had() -> None:
    canvas = Canvas()
    for frame in (*FRAMES, FRAMES[2]):
        canvas.step(frame)
    assert canvas.text().plain == "red owl [b]\u220e"


def told(*argv: str, words: tuple[str, ...] = ()) -> tuple[int, str, Script]:
    script, out = Script(), io.StringIO()
    console = Console(file=out, force_terminal=False, width=100)
    answers = iter(words)
    status = run(build_parser().parse_args(argv), console, lambda _: next(answers, ""), script)
    return status, out.getvalue(), script


def test_watch_shows_the_last_step_and_the_cost() -> None:
    status, out, script = told("watch", "hi", "--threshold", "0.9", "--max-tokens", "7")
    assert status == 0
    assert "red owl [b]" in out  # markup in a text is text
    assert "2.00 tokens per forward" in out
    user = [{"role": "user", "content": "hi"}]
    assert script.asked == [(user, 7, {"diffusion_threshold": 0.9})]


def test_chat_keeps_what_was_said() -> None:
    status, _, script = told("chat", "--effort", "low", words=("one", "two"))
    assert status == 0
    roles = [message["role"] for message in script.asked[1][0]]
    assert roles == ["user", "assistant", "user"]
    assert script.asked[1][0][1]["content"] == "red owl [b]"
    assert script.asked[0][2] == {"diffusion_effort": "low"}


def test_a_server_that_is_not_there_is_told() -> None:
    out = io.StringIO()
    arguments = build_parser().parse_args(["watch", "x", "--base-url", "http://127.0.0.1:9/v1"])
    assert run(arguments, Console(file=out, width=200)) == 1
    assert "http://127.0.0.1:9/v1" in out.getvalue()
