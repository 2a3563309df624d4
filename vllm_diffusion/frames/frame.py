"""A frame: one denoising step of one request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from torch import Tensor

KEY = "_diffusion_frame"
"""Where frames stand in vLLM's records: an attribute of a step's output, and a key of the
``kv_transfer_params`` of an output of its own, which the front end takes out before vLLM sees it.
"""


class State(IntEnum):
    """What a position is after the step."""

    MASKED = 0
    """Open; the token shown is the model's best guess."""
    ACCEPTED = 1
    """Settled by this step."""
    SETTLED = 2
    """Settled by a step before."""
    EDITED = 3
    """Settled before, and replaced by this step."""
    GIVEN = 4
    """There before the block's first step: what a constraint forces, or the client has given."""


NAMES = tuple(state.name.lower() for state in State)


@dataclass(frozen=True, slots=True)
class Taken:
    """The frames of one step as they leave the worker; W watched canvases, L canvas length."""

    rows: list[int]
    """Of the runner's batch, W of them."""
    whole: Tensor
    """int32 (4, W, L) on the host: token, best other token, ``State``, does the position exist."""
    probs: Tensor
    """float32 (2, W, L) on the host: of both tokens, under the logits that the step has read."""

    def packed(self, number: int) -> list[Any]:
        """One canvas's, as values that any serializer takes."""
        token, other, state, exists = self.whole[:, number].tolist()
        width = sum(exists)
        prob, other_prob = ([round(p, 4) for p in row] for row in self.probs[:, number].tolist())
        return [part[:width] for part in (token, other, state, prob, other_prob)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One step of one request, as the front end has it."""

    block: int
    """Blocks that were finished before."""
    step: int
    """Steps that the block has had before this one."""
    start: int
    """Position of the canvas in the output."""
    is_final: bool
    """The block is finished with this step."""
    tokens: list[int]
    others: list[int]
    """The most probable token that is not the one shown."""
    states: list[int]
    probs: list[float]
    other_probs: list[float]

    @classmethod
    def unpack(cls, packed: list[Any]) -> Frame:
        block, step, start, is_final, (tokens, others, states, probs, other_probs) = packed
        return cls(
            block=block,
            step=step,
            start=start,
            is_final=is_final,
            tokens=tokens,
            others=others,
            states=states,
            probs=probs,
            other_probs=other_probs,
        )

    def told(self, spell: Callable[[int], str], num_dropped: int = 0) -> dict[str, Any]:
        """As a client reads it.

        Args:
            spell: the text of a token.
            num_dropped: frames that were left out since the last one that was told.
        """
        return {
            "block": self.block,
            "step": self.step,
            "start": self.start,
            "final": self.is_final,
            "dropped": num_dropped,
            "tokens": [spell(token) for token in self.tokens],
            "states": [NAMES[state] for state in self.states],
            "probs": self.probs,
            "others": [spell(token) for token in self.others],
            "other_probs": self.other_probs,
        }
