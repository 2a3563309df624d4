"""``vllm-diffusion watch "..."`` and ``vllm-diffusion chat``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live

from vllm_diffusion.terminal.canvas import Canvas
from vllm_diffusion.terminal.source import Loaded, Message, Served

URL = "http://127.0.0.1:8000/v1"


def add(commands: Any) -> None:
    """Add both to the command line."""
    watch = commands.add_parser("watch", help="watch one answer sharpen in the terminal")
    watch.add_argument("prompt", help="what the user says")
    chat = commands.add_parser("chat", help="chat in the terminal; answers sharpen as they come")
    for parser in (watch, chat):
        parser.add_argument("--base-url", default=URL, help=f"of a running server; default: {URL}")
        parser.add_argument("--api-key", default=os.environ.get("VLLM_API_KEY", "none"))
        parser.add_argument("--name", help="of the served model; default: the first")
        parser.add_argument("--model", help="load this model here instead of asking a server")
        parser.add_argument("--max-tokens", type=int, default=256)
        parser.add_argument("--threshold", type=float, help="default: the model's")
        parser.add_argument("--effort", choices=("instant", "low", "medium", "high"))


def source_of(arguments: argparse.Namespace) -> Served | Loaded:
    """Where the answers come from."""
    if arguments.model:
        return Loaded(arguments.model)
    return Served(arguments.base_url, arguments.api_key, arguments.name)


def _fields(arguments: argparse.Namespace) -> dict[str, Any]:
    said = {"threshold": arguments.threshold, "effort": arguments.effort}
    return {f"diffusion_{name}": value for name, value in said.items() if value is not None}


def show(
    source: Any, messages: Sequence[Message], arguments: argparse.Namespace, console: Console
) -> str:
    """One answer as it sharpens; returns its text."""
    canvas, text = Canvas(), ""
    with Live(console=console, refresh_per_second=20, vertical_overflow="visible") as live:
        for frame, end in source.ask(messages, arguments.max_tokens, _fields(arguments)):
            if frame is not None:
                canvas.step(frame)
            live.update(canvas.picture(end["diffusion"] if end else None))
            text = end["text"] if end else text
    return text


def run(
    arguments: argparse.Namespace,
    console: Console | None = None,
    asks: Callable[[str], str] = input,
    source: Any = None,
) -> int:
    """Run one of the two; an empty line, or the end of the input, ends a chat."""
    console = console or Console()
    try:
        source = source or source_of(arguments)
        if arguments.command == "watch":
            show(source, [{"role": "user", "content": arguments.prompt}], arguments, console)
            return 0
        messages: list[Message] = []
        while words := asks("> ").strip():
            messages.append({"role": "user", "content": words})
            text = show(source, messages, arguments, console)
            messages.append({"role": "assistant", "content": text})
    except (EOFError, KeyboardInterrupt):
        return 0
    except Exception as error:
        import openai

        if not isinstance(error, openai.OpenAIError):
            raise
        console.print(f"{arguments.base_url}: {error}", style="red", markup=False)
        return 1
    return 0
