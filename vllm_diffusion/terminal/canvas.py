"""What a text looks like after a step, and a line of counters."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.text import Text

STYLES = {
    "masked": "italic dim",
    "accepted": "bold green",
    "edited": "bold yellow",
    "given": "blue",
    "settled": "",
    "emitted": "",
}
"""By the state of a position (``frames.md``)."""
Piece = tuple[str, str]
"""A token's text and its state."""


@dataclass(slots=True)
class Canvas:
    """One text on its way."""

    emitted: list[Piece] = field(default_factory=list)
    shown: list[Piece] = field(default_factory=list)
    num_steps: int = 0
    num_blocks: int = 0
    num_dropped: int = 0
    began: float = field(default_factory=time.monotonic)

    def step(self, frame: dict[str, Any]) -> None:
        """Take a frame in, as a server tells it."""
        pieces = list(zip(frame["tokens"], frame["states"], strict=True))
        del self.emitted[frame["start"] :]
        self.shown = [*self.emitted, *pieces]
        self.num_steps += 1
        self.num_dropped += frame.get("dropped", 0)
        if frame["final"]:
            self.num_blocks += 1
            self.emitted += [(token, "emitted") for token, _ in pieces]

    def text(self) -> Text:
        """The text as it is now; control tokens are no text."""
        made = Text()
        for token, state in self.shown:
            is_control = token.startswith("<|") and token.endswith("|>")
            made.append("\u220e" if is_control else token, STYLES.get(state, ""))
        return made

    def counters(self, cost: dict[str, Any] | None = None) -> Text:
        """One line: seconds, steps, blocks, tokens, and tokens per forward."""
        seconds = time.monotonic() - self.began
        num_open = sum(state == "masked" for _, state in self.shown)
        num_tokens = cost["tokens"] if cost else len(self.shown) - num_open
        forwards = cost["forwards"] if cost else self.num_steps
        told = [
            f"{seconds:.2f} s",
            f"{self.num_steps} steps",
            f"{self.num_blocks} blocks",
            f"{num_tokens} tokens",
            f"{num_open} open",
        ]
        if forwards:
            told.append(f"{num_tokens / forwards:.2f} tokens per forward")
        if self.num_dropped:
            told.append(f"{self.num_dropped} frames left out")
        return Text("  ".join(told), "dim")

    def picture(self, cost: dict[str, Any] | None = None) -> Group:
        """Both."""
        return Group(self.text(), self.counters(cost))
