"""Where a text stands in its automaton, at each position of its canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vllm_diffusion.structured.token_dfa import Automaton


@dataclass(slots=True)
class Track:
    """A request's way through the automaton of its grammar."""

    automaton: Automaton
    states: list[int] = field(default_factory=list)
    """In front of the canvas, and behind each of its tokens that has been followed."""

    def __post_init__(self) -> None:
        self.states = self.states or [self.automaton.start]

    @property
    def start(self) -> int:
        """The state in front of the canvas."""
        return self.states[0]

    def follow(self, token: int) -> bool:
        """Go on by a token that the grammar has passed; False where the automaton does not."""
        state = self.automaton.step(self.states[-1], token)
        if state is None:
            return False
        self.states.append(state)
        return True

    def drop(self, num_tokens: int) -> None:
        """The canvas's first tokens were emitted; those behind a stop token were not followed."""
        del self.states[: min(num_tokens, len(self.states) - 1)]

    def fits(self, tokens: Sequence[int | None], slack: int) -> bool:
        """Whether the canvas's tokens, None where there are none yet, can stand together.

        Args:
            tokens: of the canvas.
            slack: tokens that may follow it.
        """
        return self.automaton.fits(self.start, tokens, slack)
