"""The words for what a step computes of a request.

A request has N known tokens (prompt and emitted), and K and V that are final
up to where its next query starts. A *span* is everything that the next step
has to compute behind that; where the token budget is too small for it, a query
is as much of the known tokens as fits, and the canvas waits.

A request goes through phases, which only depend on what its steps emitted:

* ``DENOISE``: a forward of the canvas, until the block has converged;
* ``SEED``: where blocks start with the autoregressive token, the forward that
  makes the known tokens' K and V final and reads the seed off the last of them;
* ``DRAFT`` and ``VERIFY``: self-speculation's two forwards of the same canvas.

The mask groups say which span and which phase come next.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_diffusion.request.params import DecodeParams


class Phase(Enum):
    """What the step does with the canvas."""

    DENOISE = auto()
    SEED = auto()
    DRAFT = auto()
    VERIFY = auto()


@dataclass(frozen=True, slots=True)
class Span:
    """Positions are counted from the request's first token."""

    end: int
    """The query ends here."""
    width: int
    """Canvas positions behind the known tokens that get logits."""
    whole_until: int
    """A query that is cut short may end anywhere up to here, at a multiple of ``grain``."""
    grain: int


@dataclass(slots=True)
class Progress:
    """What the scheduler remembers of a request between steps."""

    decode: DecodeParams
    num_prompt: int
    last: int
    """No canvas position is at or behind this one; see ``MaskGroup.canvas_end``."""
    is_seeded: bool = False
    """The first token of the block is in the canvas, not emitted yet.

    A step that emits ends the block, a seed step too (where a grammar leaves no choice, it fills
    the whole canvas): the next block needs a seed of its own.
    """
    is_drafted: bool = False
    is_warm: bool = False
    """A full-attention block has had its first forward, so caches of it exist."""

    def restart(self) -> None:
        """The request lost its K and V."""
        self.is_seeded = self.is_drafted = self.is_warm = False
